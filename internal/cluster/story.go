package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// line is one line of a story.
type line struct {
	at   int64
	who  string
	g    *guest // whom it concerns; nil: all
	text string
}

// say notes what happens, when a story is wanted.
func (w *world) say(who string, g *guest, format string, args ...any) {
	if w.keep {
		w.story = append(w.story, line{w.now, who, g, fmt.Sprintf(format, args...)})
	}
}

// Bounds of a story: what concerns the VM, from its last quiet moment on.
const (
	storyLines = 100
	storyHead  = 40
)

// tell makes the story of the violation: what happened to its VM since its last move
// began, with the faults of that time.
func (w *world) tell() string {
	if w.bad == nil || len(w.story) == 0 {
		return ""
	}
	about := w.story[len(w.story)-1].g
	var lines []line
	from := int64(0)
	for i := len(w.story) - 1; i >= 0 && from == 0; i-- {
		l := w.story[i]
		if about != nil && l.g == about && strings.Contains(l.text, ": command ") && w.now-l.at > int64(2e9) {
			from = l.at - int64(60e9)
		}
	}
	for _, l := range w.story {
		if l.at >= from && (l.g == about || l.g == nil) {
			lines = append(lines, l)
		}
	}
	if n := len(lines); n > storyLines {
		cut := line{at: lines[storyHead].at, who: "...", text: fmt.Sprintf("%d lines left out", n-storyLines)}
		lines = slices.Concat(lines[:storyHead], []line{cut}, lines[n-storyLines+storyHead:])
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%14s  %-14s %s\n", since(l.at), l.who, l.text)
	}
	return b.String()
}
