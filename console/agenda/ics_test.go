package agenda

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/foreshift/foreshift/forecaster/calendar"
	"github.com/foreshift/foreshift/schemas"
)

func TestReadICS(t *testing.T) {
	f, err := os.Open("testdata/campaigns.ics")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries, skipped, err := ReadICS(f, &schemas.Calendar{Class: ""}, time.UTC)
	if err != nil || len(entries) != 5 || len(skipped) != 1 {
		t.Fatalf("%v, %d entries, skipped %v", err, len(entries), skipped)
	}
	friday, batch, early, holiday, gone := entries[0], entries[1], entries[2], entries[3], entries[4]
	if friday.Name != "Black Friday, all shops" || friday.Zone != "Europe/Berlin" || friday.Class != "campaign" || friday.Match["tier"] != "web" ||
		friday.Expected["cpu"] != .4 || friday.Expected["net"] != .6 || friday.Start != schemas.At(time.Date(2026, 11, 27, 7, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", friday)
	}
	if holiday.End.Sub(holiday.Start) != 24*time.Hour || holiday.Class != "holiday" {
		t.Errorf("%+v", holiday)
	}
	if !gone.Removed {
		t.Errorf("%+v", gone)
	}
	e, err := calendar.Compile(batch)
	if err != nil {
		t.Fatal(err)
	}
	day := func(d int) schemas.Time { return schemas.At(time.Date(2026, 12, d, 0, 0, 0, 0, time.UTC)) }
	spans, _ := e.Between(day(21), day(29), nil) // Monday to Monday, less the 24th and 25th
	if len(spans) != 4 || spans[2].Start.Std().Day() != 23 || spans[3].Start.Std().Day() != 28 || spans[0].End.Sub(spans[0].Start) != 2*time.Hour {
		t.Errorf("%v", spans)
	}
	if early.ID == batch.ID || early.Repeat != "" || early.Start.Std().Hour() != 20 {
		t.Errorf("%+v", early)
	}
}

// Files that were damaged on the way are read in part or refused; what is taken of
// them is in order.
func TestReadICSOfDamagedFiles(t *testing.T) {
	whole, err := os.ReadFile("testdata/campaigns.ics")
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	read := 0
	for range 500 {
		b := bytes.Clone(whole)
		for range 1 + r.IntN(8) {
			switch i := r.IntN(len(b)); r.IntN(3) {
			case 0:
				b[i] = byte(r.IntN(256))
			case 1:
				b = append(b[:i:i], b[min(len(b), i+r.IntN(40)):]...)
			default:
				b[i] = whole[r.IntN(len(whole))]
			}
		}
		entries, _, err := ReadICS(bytes.NewReader(b), &schemas.Calendar{}, time.UTC)
		if err != nil {
			continue
		}
		read++
		for _, e := range entries {
			if err := e.Validate(); err != nil {
				t.Fatalf("%+v: %v", e, err)
			}
		}
	}
	if read == 0 || read == 500 {
		t.Errorf("%d of 500 were read", read)
	}
}

func FuzzReadICS(f *testing.F) {
	b, err := os.ReadFile("testdata/campaigns.ics")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART:20260101\nDURATION:P1W\nEND:VEVENT\nEND:VCALENDAR\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, _, err := ReadICS(bytes.NewReader(b), &schemas.Calendar{}, time.UTC)
		if err != nil {
			return
		}
		for _, e := range entries {
			if err := e.Validate(); err != nil {
				t.Fatalf("%+v: %v", e, err)
			}
		}
	})
}
