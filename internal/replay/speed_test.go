package replay

import (
	"context"
	"testing"
)

// From kept forecasts a small fleet runs far faster than real time, and comes to the same
// moves with one worker and with two.
func TestSpeed(t *testing.T) {
	var hashes []string
	for _, workers := range []int{1, 2} {
		r, err := Speed(context.Background(), 40, 9, workers, t.TempDir(), func() (float64, int64) { return 1, 1 })
		if err != nil {
			t.Fatal(err)
		}
		if r.Times < 1000 || r.Moves == 0 || r.Kept == 0 {
			t.Errorf("%+v", r)
		}
		hashes = append(hashes, r.Hash)
	}
	if hashes[0] != hashes[1] {
		t.Errorf("moves with one worker and with two: %v", hashes)
	}
}
