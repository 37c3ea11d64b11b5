package roadef

import (
	"fmt"
	"math"

	"github.com/foreshift/foreshift/benchmarks/instance"
)

// Model is one instance as the file tells it. Quantities have the challenge's own
// units: whole numbers without a name. Machines, services, processes, locations
// and neighbourhoods are counted from 0.
type Model struct {
	Resources []Resource
	Machines  []Machine
	Services  []Service
	Processes []Process
	Balances  []Balance
	// Weights of the three costs of moving.
	ProcessWeight, ServiceWeight, MachineWeight int64
	// Locations and Neighbourhoods are one more than the largest index used.
	Locations, Neighbourhoods int
}

// Resource is a dimension of capacity.
type Resource struct {
	Transient bool // a process that moved keeps using it where it came from
	Weight    int64
}

// Machine offers Capacity per resource, and costs for what is used above Safety.
type Machine struct {
	Neighbourhood, Location int32
	Capacity, Safety        []int64
	MoveCost                []int32 // of a process of this machine, per destination
}

// Service is a set of processes of which no two share a machine.
type Service struct {
	Spread    int     // locations it needs at least
	DependsOn []int32 // services needed in each neighbourhood where it runs
}

// Process needs Requirement per resource.
type Process struct {
	Service     int32
	Requirement []int64
	MoveCost    int64
}

// Balance asks for Target units of Of free for each free unit of Per.
type Balance struct {
	Per, Of int // resources
	Target  int64
	Weight  int64
}

// Bounds of what is read: far above any published instance, far below what would
// exhaust a machine.
const (
	maxResources = 64
	maxCount     = 1 << 20
	maxCells     = 1 << 27 // numbers in any one table
	maxNumber    = 1 << 40
)

// scanner takes whole numbers from text and remembers the first fault, with its line.
type scanner struct {
	b   []byte
	pos int
	nth int
	err error
}

func (s *scanner) fail(format string, args ...any) {
	s.err = fmt.Errorf("line %d: %w", instance.Line(s.b, s.pos+1), fmt.Errorf(format, args...))
}

// next reads one number between 0 and most.
func (s *scanner) next(what string, most int64) int64 {
	for s.pos < len(s.b) && (s.b[s.pos] == ' ' || s.b[s.pos] == '\n' || s.b[s.pos] == '\r' || s.b[s.pos] == '\t') {
		s.pos++
	}
	s.nth++
	start := s.pos
	var v int64
	for ; s.pos < len(s.b); s.pos++ {
		c := s.b[s.pos] - '0'
		if c > 9 {
			break
		}
		if v = v*10 + int64(c); v > math.MaxInt64/16 {
			break
		}
	}
	switch {
	case s.err != nil:
		return 0
	case start == len(s.b):
		s.fail("ends before number %d, %s", s.nth, what)
	case s.pos == start:
		s.fail("number %d, %s: found %q", s.nth, what, s.b[start])
	case v > most:
		s.fail("number %d, %s: %d is above %d", s.nth, what, v, most)
	}
	if s.err != nil {
		return 0
	}
	return v
}

// count reads how many rows follow, each of some numbers.
func (s *scanner) count(what string, most, each int) int {
	n := int(s.next("the number of "+what, int64(most)))
	if s.err == nil && n*max(each, 1) > maxCells {
		s.fail("%d %s are more than this program reads", n, what)
	}
	if s.err != nil {
		return 0
	}
	return n
}

func (s *scanner) row(what string, n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = s.next(what, maxNumber)
	}
	return out
}

func (s *scanner) end() error {
	for ; s.err == nil && s.pos < len(s.b); s.pos++ {
		if c := s.b[s.pos]; c > ' ' {
			s.fail("has more after number %d, starting with %q", s.nth, c)
		}
	}
	return s.err
}

// ParseModel reads the text of a model.
func ParseModel(text []byte) (*Model, error) {
	s := &scanner{b: text}
	m := new(Model)
	nr := s.count("resources", maxResources, 1)
	for range nr {
		r := Resource{Transient: s.next("transient, 0 or 1", 1) == 1}
		r.Weight = s.next("the weight of a resource", maxNumber)
		m.Resources = append(m.Resources, r)
	}
	nm := s.count("machines", maxCount, nr)
	if nm*nm > maxCells {
		s.fail("%d machines are more than this program reads", nm)
		nm = 0
	}
	for range nm {
		k := Machine{Neighbourhood: int32(s.next("a neighbourhood", maxCount)), Location: int32(s.next("a location", maxCount))}
		k.Capacity = s.row("a capacity", nr)
		k.Safety = s.row("a safety capacity", nr)
		k.MoveCost = make([]int32, nm)
		for i := range k.MoveCost {
			k.MoveCost[i] = int32(s.next("a machine move cost", math.MaxInt32))
		}
		m.Locations = max(m.Locations, int(k.Location)+1)
		m.Neighbourhoods = max(m.Neighbourhoods, int(k.Neighbourhood)+1)
		m.Machines = append(m.Machines, k)
		if s.err != nil {
			break
		}
	}
	ns := s.count("services", maxCount, 1)
	for range ns {
		v := Service{Spread: int(s.next("a spread", maxCount))}
		for range s.count("dependencies", max(ns-1, 0), 1) {
			v.DependsOn = append(v.DependsOn, int32(s.next("a service depended on", int64(ns-1))))
		}
		m.Services = append(m.Services, v)
		if s.err != nil {
			break
		}
	}
	np := s.count("processes", maxCount, nr)
	for range np {
		p := Process{Service: int32(s.next("the service of a process", int64(ns-1)))}
		p.Requirement = s.row("a requirement", nr)
		p.MoveCost = s.next("a process move cost", maxNumber)
		m.Processes = append(m.Processes, p)
		if s.err != nil {
			break
		}
	}
	for range s.count("balances", maxCount, 1) {
		b := Balance{Per: int(s.next("a resource of a balance", int64(nr-1))), Of: int(s.next("a resource of a balance", int64(nr-1)))}
		b.Target = s.next("the target of a balance", maxNumber)
		b.Weight = s.next("the weight of a balance", maxNumber)
		m.Balances = append(m.Balances, b)
		if s.err != nil {
			break
		}
	}
	m.ProcessWeight = s.next("the weight of process moves", maxNumber)
	m.ServiceWeight = s.next("the weight of service moves", maxNumber)
	m.MachineWeight = s.next("the weight of machine moves", maxNumber)
	if err := s.end(); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if nr == 0 || nm == 0 || np == 0 {
		return nil, fmt.Errorf("model: %d resources, %d machines, %d processes: none may be 0", nr, nm, np)
	}
	if most := m.most(); most > maxCost {
		return nil, fmt.Errorf("model: costs up to %.3g are not counted exactly above %.3g", most, float64(maxCost))
	}
	return m, nil
}

// maxCost is the largest cost that a float64 tells from its neighbours: the search
// reckons in whole numbers, its driver in those.
const maxCost = 1 << 53

// most is a cost that no assignment exceeds.
func (m *Model) most() float64 {
	var most, cost float64
	for r, res := range m.Resources {
		for _, p := range m.Processes {
			most += float64(res.Weight) * float64(p.Requirement[r])
		}
	}
	for _, b := range m.Balances {
		for _, k := range m.Machines {
			most += float64(b.Weight) * (float64(b.Target)*float64(k.Capacity[b.Per]) + float64(k.Capacity[b.Of]))
		}
	}
	for _, p := range m.Processes {
		most += float64(m.ProcessWeight) * float64(p.MoveCost)
	}
	for _, k := range m.Machines {
		for _, c := range k.MoveCost {
			cost = max(cost, float64(c))
		}
	}
	return most + float64(len(m.Processes))*(float64(m.ServiceWeight)+float64(m.MachineWeight)*cost)
}

// ParseAssignment reads one machine per process.
func ParseAssignment(text []byte, m *Model) ([]int32, error) {
	s := &scanner{b: text}
	out := make([]int32, len(m.Processes))
	for i := range out {
		out[i] = int32(s.next("the machine of a process", int64(len(m.Machines)-1)))
	}
	if err := s.end(); err != nil {
		return nil, fmt.Errorf("assignment: %w", err)
	}
	return out, nil
}
