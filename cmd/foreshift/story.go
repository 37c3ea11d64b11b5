package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// story tells a person at the terminal what happens, one line at a time; on a
// terminal, progress redraws its line.
type story struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
}

func newStory(w io.Writer) *story {
	s := &story{w: w}
	if f, ok := w.(*os.File); ok {
		st, err := f.Stat()
		s.terminal = err == nil && st.Mode()&os.ModeCharDevice != 0
	}
	return s
}

func (s *story) line(format string, a ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, format+"\n", a...)
}

// item is one part that has started.
func (s *story) item(name, format string, a ...any) {
	s.line("  %-10s "+format, append([]any{name}, a...)...)
}

// event is something that happened, with its time of day.
func (s *story) event(format string, a ...any) {
	s.line(time.Now().Format("15:04:05")+"  "+format, a...)
}

// progress gives a function that shows how many of n are done.
func (s *story) progress(name, what string, n int) func(done int) {
	const width = 24
	var shown time.Time
	return func(done int) {
		if done < n && (!s.terminal || time.Since(shown) < 100*time.Millisecond) {
			return
		}
		shown = time.Now()
		s.mu.Lock()
		defer s.mu.Unlock()
		start, end := "", "\n"
		if s.terminal {
			start = "\r"
			if done < n {
				end = ""
			}
		}
		full := width * done / max(n, 1)
		fmt.Fprintf(s.w, "%s  %-10s %s%s %d/%d steps, %s%s", start, name, strings.Repeat("█", full), strings.Repeat("░", width-full), done, n, what, end)
	}
}
