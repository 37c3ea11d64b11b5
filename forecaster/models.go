package forecaster

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/forecaster/lstm"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// ModelLSTM is the name of the weights of the network, as [lstm.Weights.Encode] writes
// them.
const ModelLSTM = "lstm"

// Version is a version of learnt state with its bytes: what announces it, on MODELS,
// has only their digest.
type Version struct {
	schemas.Model
	Data []byte
}

// maxVersion bounds the bytes of a version.
const maxVersion = 1 << 20

// Digest is how [schemas.Model] names the bytes of a version.
func Digest(data []byte) string { return fmt.Sprintf("%016x", xxhash.Sum64(data)) }

// versions are the versions of learnt state of the fleet. All partitions take one at
// the same step boundary, that of [schemas.Model], so that they agree without talking.
// Without any, the state built in is used.
type versions struct {
	waiting []Version          // not in force yet, in order of step, name and version
	inForce map[string]Version // newest in force, by name
}

// fold checks a version and lets it wait for its step.
func (vs *versions) fold(v *Version) error {
	if len(v.Data) > maxVersion || len(v.Data) != v.Size || Digest(v.Data) != v.Digest {
		return fmt.Errorf("model %s version %d: %d bytes with digest %s, announced as %d bytes with %s", v.Name, v.Version,
			len(v.Data), Digest(v.Data), v.Size, v.Digest)
	}
	if err := check(v); err != nil {
		return fmt.Errorf("model %s version %d: %w", v.Name, v.Version, err)
	}
	if v.Version <= vs.inForce[v.Name].Version {
		return nil
	}
	at, known := slices.BinarySearchFunc(vs.waiting, *v, func(a, b Version) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	if !known {
		vs.waiting = slices.Insert(vs.waiting, at, *v)
	}
	if len(vs.waiting) > maxWaiting {
		vs.waiting = vs.waiting[1:]
	}
	return nil
}

// check says why a version cannot be used, if so.
func check(v *Version) error {
	switch v.Name {
	case ModelLSTM:
		_, err := lstm.Decode(v.Data)
		return err
	case ModelOrigins:
		return useOrigins(&ensemble.Joint{}, v)
	default:
		return errors.New("no part of a forecaster")
	}
}

// maxWaiting bounds the versions that wait for their step.
const maxWaiting = 8

// take puts in force what is due at a step.
func (vs *versions) take(d *Decider, now schemas.Step) {
	for len(vs.waiting) > 0 && vs.waiting[0].Step <= now {
		v := vs.waiting[0]
		vs.waiting = vs.waiting[1:]
		if v.Version > vs.inForce[v.Name].Version {
			vs.use(d, v)
		}
	}
}

// use puts a version, which fold has checked, in force.
func (vs *versions) use(d *Decider, v Version) {
	var err error
	switch v.Name {
	case ModelLSTM:
		var w *lstm.Weights
		if w, err = lstm.Decode(v.Data); err == nil {
			for _, l := range d.lanes {
				l.net.SetWeights(w)
			}
		}
	case ModelOrigins:
		err = useOrigins(&d.joint, &v)
	}
	if err != nil {
		d.stats.Dropped++
		return
	}
	if vs.inForce == nil {
		vs.inForce = map[string]Version{}
	}
	vs.inForce[v.Name] = v
	d.stats.Models++
}

// restore puts back what a snapshot holds.
func (vs *versions) restore(d *Decider, inForce, waiting []Version) error {
	for i := range inForce {
		if err := vs.fold(&inForce[i]); err != nil {
			return err
		}
	}
	vs.take(d, 1<<62)
	for i := range waiting {
		if err := vs.fold(&waiting[i]); err != nil {
			return err
		}
	}
	return nil
}

// list gives the versions in force, by name.
func (vs *versions) list() []Version {
	var out []Version
	for _, v := range vs.inForce {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Version) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Network gives the weights in force.
func (d *Decider) Network() (*lstm.Weights, error) {
	if v, ok := d.models.inForce[ModelLSTM]; ok {
		return lstm.Decode(v.Data)
	}
	return lstm.Default()
}

// Sample copies up to n series of the fleet for training: those of the VMs whose ids
// have the smallest hashes, so that it is a sample of no kind.
func (d *Decider) Sample(n int) []lstm.Series {
	vms := slices.Clone(d.list)
	slices.SortFunc(vms, func(a, b *window.VM) int {
		return cmp.Or(cmp.Compare(xxhash.Sum64(a.ID[:]), xxhash.Sum64(b.ID[:])), slices.Compare(a.ID[:], b.ID[:]))
	})
	var out []lstm.Series
	for _, v := range vms {
		if out = append(out, lstm.FromView(v.ID, v.W.View())...); len(out) >= n {
			return out[:n]
		}
	}
	return out
}
