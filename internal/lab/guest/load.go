package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Schedule is how much CPU the guest burns over a day of its own: a piecewise
// linear curve that repeats.
type Schedule struct {
	Period time.Duration
	points []point // rising in At; the first is at 0
}

// point is one corner of the curve.
type point struct {
	At    time.Duration
	Level float64 // share of one vCPU, 0..1
}

// maxPoints bounds what a kernel command line may ask for.
const maxPoints = 256

// ParseSchedule reads a curve such as "0:10,30:10,45:60,60:60,65:10": at second 0
// of the day 10 % of a vCPU, flat until second 30, then rising to 60 % at second
// 45. Seconds may have a fraction. Between the last corner and the end of the
// period the curve goes back to the first level.
func ParseSchedule(text string, period time.Duration) (Schedule, error) {
	s := Schedule{Period: period}
	if period <= 0 || period > 365*24*time.Hour {
		return s, fmt.Errorf("load schedule: period %v is out of range", period)
	}
	fields := strings.Split(text, ",")
	if len(fields) > maxPoints {
		return s, fmt.Errorf("load schedule: %d corners, at most %d", len(fields), maxPoints)
	}
	for i, f := range fields {
		at, level, ok := strings.Cut(f, ":")
		if !ok {
			return s, fmt.Errorf("load schedule: corner %d %q: want SECOND:PERCENT", i+1, f)
		}
		sec, err := strconv.ParseFloat(at, 64)
		if err != nil || !(sec >= 0 && sec < period.Seconds()) {
			return s, fmt.Errorf("load schedule: corner %d %q: want a second from 0 to before %v", i+1, f, period)
		}
		pct, err := strconv.ParseFloat(level, 64)
		if err != nil || !(pct >= 0 && pct <= 100) {
			return s, fmt.Errorf("load schedule: corner %d %q: want a level from 0 to 100 percent", i+1, f)
		}
		p := point{At: time.Duration(sec * float64(time.Second)), Level: pct / 100}
		if i == 0 && p.At != 0 {
			return s, fmt.Errorf("load schedule: the first corner is at second %s, want 0", at)
		}
		if i > 0 && p.At <= s.points[i-1].At {
			return s, fmt.Errorf("load schedule: corner %d %q does not come after the one before it", i+1, f)
		}
		s.points = append(s.points, p)
	}
	return s, nil
}

// Level is the share of one vCPU to burn at time t, t counted from any multiple
// of the period.
func (s Schedule) Level(t time.Duration) float64 {
	if len(s.points) == 0 {
		return 0
	}
	t %= s.Period
	if t < 0 {
		t += s.Period
	}
	last := len(s.points) - 1
	for i, p := range s.points {
		end, to := s.Period, s.points[0].Level
		if i < last {
			end, to = s.points[i+1].At, s.points[i+1].Level
		}
		if t < end {
			return p.Level + (to-p.Level)*float64(t-p.At)/float64(end-p.At)
		}
	}
	return s.points[last].Level
}
