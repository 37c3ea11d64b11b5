package main

import (
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/mattn/go-runewidth"
	"golang.org/x/sys/unix"
)

// paper is standard output with what is known of it: whether a person looks at it
// in colour, and how wide it is.
type paper struct {
	io.Writer
	terminal      bool
	color         bool
	width, height int // 0: not a terminal, lines may be as long as they are
}

// newPaper looks at f. Colour is for terminals only, and never against NO_COLOR
// (https://no-color.org).
func newPaper(f *os.File) *paper {
	p := &paper{Writer: f}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return p
	}
	p.terminal, p.width, p.height = true, int(size.Col), int(size.Row)
	p.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return p
}

// on is what is known of a writer: nothing, unless it is a paper.
func on(w io.Writer) paper {
	if p, ok := w.(*paper); ok {
		return *p
	}
	return paper{Writer: w}
}

// Styles, as ANSI wants them.
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (p *paper) paint(style, s string) string {
	if !p.color || style == "" || s == "" {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

// words that mean the same in every table.
var words = map[string]string{
	"ok": green, "succeeded": green, "auto": green,
	"failed": red, "fail": red, "unknown": red, "refused": yellow, "warn": yellow, "PAUSED": red, "paused": red,
	"cordoned": yellow, "draining": yellow, "maintenance": yellow,
}

// tint is the style of a cell under a heading: the same word and the same chance
// look the same in every table.
func tint(heading, cell string) string {
	switch {
	case strings.HasPrefix(heading, "PRESSURE") || heading == "6H" || heading == "24H":
		n, err := strconv.Atoi(strings.TrimSuffix(cell, " %"))
		switch {
		case err != nil || n < 25:
			return ""
		case n < 50:
			return yellow
		}
		return red
	case strings.Contains(cell, "STALE") || strings.Contains(cell, "SILENT") || strings.Contains(cell, "RUNS TWICE"):
		return red
	}
	return words[cell]
}

// number is a cell that is set flush right: a figure with its unit, or none.
var number = regexp.MustCompile(`^(-|[-+]?[0-9][0-9.,]*( (%|ms|s|[kMGT]?B/s|GiB|MiB|GB|MB))?)$`)

const gap = "  "

// table writes aligned columns; the first row is the heading, which names the unit
// where the cells do not. Columns of figures are flush right. On a terminal that
// is too narrow, the last column is folded.
func table(w io.Writer, rows ...[]string) error {
	if len(rows) == 0 {
		return nil
	}
	p := on(w)
	n := 0
	for _, r := range rows {
		n = max(n, len(r))
	}
	width, right := make([]int, n), make([]bool, n)
	for c := range n {
		right[c] = len(rows) > 1
		for i, r := range rows {
			if c >= len(r) {
				continue
			}
			width[c] = max(width[c], runewidth.StringWidth(r[c]))
			if i > 0 && !number.MatchString(r[c]) {
				right[c] = false
			}
		}
	}
	last := 0 // where the last column begins
	for _, x := range width[:n-1] {
		last += x + len(gap)
	}
	fold := 0
	if p.width > 0 && last+width[n-1] > p.width && p.width-last >= 24 {
		fold = p.width - last
	}
	var b strings.Builder
	for i, r := range rows {
		line(&b, &p, rows[0], r, width, right, i == 0, last, fold)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func line(b *strings.Builder, p *paper, head, r []string, width []int, right []bool, heading bool, last, fold int) {
	for c, cell := range r {
		style := bold
		if !heading && c < len(head) {
			style = tint(strings.TrimSpace(head[c]), cell)
		}
		pad := strings.Repeat(" ", width[c]-runewidth.StringWidth(cell))
		end := c == len(r)-1
		if fold > 0 && c == len(width)-1 {
			for i, part := range wrap(cell, fold) {
				if i > 0 {
					b.WriteString("\n" + strings.Repeat(" ", last))
				}
				b.WriteString(p.paint(style, part))
			}
			break
		}
		switch {
		case right[c]:
			b.WriteString(pad + p.paint(style, cell))
		case end:
			b.WriteString(p.paint(style, cell))
		default:
			b.WriteString(p.paint(style, cell) + pad)
		}
		if !end {
			b.WriteString(gap)
		}
	}
	b.WriteByte('\n')
}

// wrap folds text at blanks into lines of at most n columns where words allow it.
func wrap(s string, n int) (out []string) {
	line := ""
	for word := range strings.FieldsSeq(s) {
		if line != "" && runewidth.StringWidth(line)+1+runewidth.StringWidth(word) > n {
			out, line = append(out, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(out, line)
}
