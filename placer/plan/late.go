package plan

// A search makes and takes back moves by the ten thousand, and on most hosts neither
// memory nor traffic comes near a limit. So the sums of both are not kept up to date:
// what changes waits in a short queue, a change and its opposite cancel each other, and
// only a host on which a bound does not settle the question is made exact.

// lates is how many changes of a host may wait.
const lates = 8

// change is VM vm counted on a host (sign 1) or taken off it (-1); see [sums.add].
type change struct {
	vm            int32
	from, memFrom int16
	sign          float32
}

// late are the changes that a host's memory and traffic do not count yet. unsure says
// that the highest of them are only known to be no higher than noted.
type late struct {
	queue  [lates]change
	n      int8
	unsure bool
}

// later notes a change of host h. The highest demand rises by at most the VM's own.
func (s *sums) later(h int, c change) {
	l := &s.late[h]
	l.unsure = true
	for j := int(l.n) - 1; j >= 0; j-- {
		if q := l.queue[j]; q.vm == c.vm && q.from == c.from && q.memFrom == c.memFrom && q.sign == -c.sign {
			if q.sign > 0 {
				s.raise(h, int(c.vm), -1)
			}
			copy(l.queue[j:], l.queue[j+1:l.n])
			l.n--
			return
		}
	}
	if l.n == lates {
		s.settle(h)
	}
	l.queue[l.n] = c
	l.n++
	if c.sign > 0 {
		s.raise(h, int(c.vm), 1)
	}
}

func (s *sums) raise(h, i int, sign float32) {
	s.memTop[h] += sign * s.vpeak[i]
	s.endTop[h] += sign * s.vpeak[i]
	for j := range s.ndTop[h] {
		s.ndTop[h][j] += float64(sign) * s.vtraffic[i][j]
	}
}

// settle counts what waits.
func (s *sums) settle(h int) {
	l := &s.late[h]
	for _, c := range l.queue[:l.n] {
		i, mem := int(c.vm), s.memory(int(c.vm))
		s.addPath(s.mem, h, mem, c.sign, int(c.memFrom))
		s.addPath(s.end, h, mem, c.sign, 0)
		s.addTraffic(i, h, float64(c.sign), int(c.from))
	}
	l.n = 0
}

// exact settles host h and finds its highest memory and traffic.
func (s *sums) exact(h int) {
	if !s.late[h].unsure {
		return
	}
	s.settle(h)
	s.late[h].unsure = false
	s.memTop[h], s.endTop[h] = highest(s.mem[h*s.n:(h+1)*s.n]), highest(s.end[h*s.n:(h+1)*s.n])
	s.topTraffic(h)
}
