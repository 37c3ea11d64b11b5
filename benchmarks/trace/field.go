package trace

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bin is the length of a bin when a file has timestamps instead of t.
const Bin = 5 * time.Minute

// percent says whether a metric of that name lies within 0..100.
func percent(metric string) bool {
	return strings.HasSuffix(metric, "_pct") || strings.Contains(metric, "_pct_") || metric == "azure_cpu"
}

// missing are the usual words for no value.
func missing(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "", "na", "nan", "null", "none", "-", "?":
		return true
	}
	return false
}

// whole reads a whole number, which some programs write as 12.0.
func whole(s string) (int, error) {
	s = strings.TrimSpace(s)
	if t, err := strconv.Atoi(s); err == nil {
		return t, nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || v != math.Trunc(v) || math.Abs(v) > maxBin {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return int(v), nil
}

// number is missing when it is not one.
func number(s string) float32 {
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 32)
	if err != nil || math.IsInf(v, 0) {
		return float32(math.NaN())
	}
	return float32(v)
}

// bin reads a timestamp: RFC 3339, the same with a space or without a zone (UTC), or
// seconds, or from 10^11 on milliseconds, of Unix.
func bin(s string) (int, error) {
	s = strings.TrimSpace(s)
	for _, layout := range [...]string{time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04"} {
		if t, err := time.Parse(layout, s); err == nil {
			return int(t.Unix() / int64(Bin/time.Second)), nil
		}
	}
	if v, err := strconv.ParseFloat(s, 64); err == nil && v >= 0 && v < 1e15 {
		if v >= 1e11 {
			v /= 1000
		}
		return int(v / Bin.Seconds()), nil
	}
	return 0, fmt.Errorf("%q is neither RFC 3339 nor Unix seconds", s)
}
