package forecaster

import (
	"strings"

	"github.com/foreshift/foreshift/forecaster/calendar"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// sheetSteps is the range a sheet of regressors covers: the window, the forecast
// horizon, and a day in which it need not be made anew.
const sheetSteps = window.Rows + 2*schemas.StepsPerDay

// future is what is known of the future, and of whom it speaks.
type future struct {
	book    *calendar.Book
	sheet   *calendar.Sheet
	version uint64 // of the book when the sheet was made
}

// fold takes an entry, a series, or the labels of a VM.
func (f *future) fold(e streams.Event) error {
	switch m := e.Msg.(type) {
	case *schemas.Calendar:
		return f.book.Put(m)
	case *schemas.External:
		return f.book.PutExternal(m)
	case *schemas.VMEntry:
		f.book.PutVM(m.VM, m.Labels)
	case nil: // a key was removed
		key, ok := strings.CutPrefix(e.Subject, streams.SubjectKV(streams.BucketVMs, ""))
		if id, err := schemas.ParseVMID(key); ok && err == nil {
			f.book.RemoveVM(id)
		}
	}
	return nil
}

// expand makes the regressors for the steps round the newest closed one, and tells
// which of them concern which series of the bank. Without entries there are none.
func (d *Decider) expand() {
	f := &d.future
	if f.book.Len() == 0 {
		f.sheet = nil
		for _, l := range d.lanes {
			l.known = model.Regressors{}
		}
		return
	}
	from := d.closed - window.Rows
	if s := f.sheet; s == nil || f.version != f.book.Version() || from < s.From || d.closed+schemas.StepsPerDay >= s.From+schemas.Step(s.N) {
		f.sheet, f.version = f.book.Sheet(from, sheetSteps), f.book.Version()
	}
	for _, l := range d.lanes {
		l.known.From, l.known.X = f.sheet.From, f.sheet.X
		for len(l.known.Of) < len(l.y) {
			l.known.Of = append(l.known.Of, nil)
		}
		clear(l.known.Of)
		for i := range d.vms {
			if st := &d.vms[i]; st.present {
				l.known.Of[st.index] = f.sheet.Terms(st.id, l.r)
			}
		}
	}
}
