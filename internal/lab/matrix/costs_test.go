package matrix

import (
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// TestForetoldMovesAreHeldToTheBars: a world in which moves take half as long again as
// arithmetic has it, and a bit more, is learnt; one without any order is not.
func TestForetoldMovesAreHeldToTheBars(t *testing.T) {
	play := func(came func(i int, plain schemas.Seconds) schemas.Seconds, still schemas.Millis) CostsReport {
		told := &teller{}
		for i := range 40 {
			c := &schemas.Command{}
			speed := linkSpeeds[i%len(linkSpeeds)]
			told.tell(c, 96<<20, 4<<20, speed)
			o := &schemas.Outcome{Result: schemas.ResultSucceeded, Predicted: c.Predicted,
				Duration: came(i, c.Predicted.Plain.Duration), Downtime: still, Volume: 70 << 20}
			told.hear(o, speed)
		}
		return judgeCosts(told.moves, 20)
	}
	good := play(func(_ int, plain schemas.Seconds) schemas.Seconds { return 1.5*plain + .8 }, 240)
	if len(good.Failures) > 0 || good.Judged != 20 || good.Duration > .05 || good.PlainDuration < .2 {
		t.Errorf("%s; %v", good.Line(), good.Failures)
	}
	if wild := play(func(i int, plain schemas.Seconds) schemas.Seconds { return plain * schemas.Seconds(1+9*(i*i%7)) }, 240); len(wild.Failures) != 1 {
		t.Errorf("%s; %v", wild.Line(), wild.Failures)
	}
	if few := judgeCosts(good.Moves[:20], 20); len(few.Failures) != 1 || few.Judged != 0 {
		t.Errorf("nothing was judged, and that is fine? %+v", few)
	}
	late := good.Moves[39]
	late.Came.Downtime = 10 * late.Predicted.Downtime
	if r := judgeCosts([]Foretold{late}, 20); len(r.Failures) != 1 {
		t.Errorf("a downtime of ten times what was foretold: %v", r.Failures)
	}
}
