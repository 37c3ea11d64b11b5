package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
)

// story tells a person at the terminal what happens, one line at a time; on a
// terminal, progress redraws its line.
type story struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
}

func newStory(w io.Writer) *story { return &story{w: w, terminal: on(w).terminal} }

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
	var shown time.Time
	return func(done int) {
		if done < n && (!s.terminal || time.Since(shown) < 100*time.Millisecond) {
			return
		}
		shown = time.Now()
		s.bar("  "+fmt.Sprintf("%-10s", name), done, n, fmt.Sprintf("%d/%d steps, %s", done, n, what), true)
	}
}

// bar draws how many of n are done. On a terminal it is drawn over the one before,
// until all are done; elsewhere it is a line, written only if it is new.
func (s *story) bar(name string, done, n int, text string, new bool) {
	const width = 24
	s.mu.Lock()
	defer s.mu.Unlock()
	start, end := "", "\n"
	if s.terminal {
		start = "\r\x1b[K"
		if done < n {
			end = ""
		}
	} else if !new {
		return
	}
	full := width * done / max(n, 1)
	line := fmt.Sprintf("%s %s%s %s", name, strings.Repeat("█", full), strings.Repeat("░", width-full), text)
	if w := on(s.w).width; w > 0 && end == "" {
		line = runewidth.Truncate(line, w-1, "")
	}
	fmt.Fprint(s.w, start+line+end)
}
