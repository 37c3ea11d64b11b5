package forecast

import (
	"io"
	"strconv"
	"strings"
)

// lines appends the forecast as CSV.
func (j *judge) lines(id string, origin int) {
	if strings.ContainsAny(id, "\",\r\n") {
		id = `"` + strings.ReplaceAll(id, `"`, `""`) + `"`
	}
	for h := range j.q {
		j.text = append(j.text, id...)
		j.text = append(j.text, ',')
		j.text = strconv.AppendInt(j.text, int64(origin), 10)
		j.text = append(j.text, ',')
		j.text = strconv.AppendInt(j.text, int64(h+1), 10)
		for _, q := range j.q[h] {
			j.text = append(j.text, ',')
			j.text = strconv.AppendFloat(j.text, float64(q), 'g', 6, 32)
		}
		j.text = append(j.text, '\n')
	}
}

// csvOut writes forecasts and remembers the first error.
type csvOut struct {
	w   io.Writer
	err error
}

func (o *csvOut) head() {
	o.write([]byte("series,origin,step,q0.1,q0.2,q0.3,q0.4,q0.5,q0.6,q0.7,q0.8,q0.9\n"))
}

func (o *csvOut) write(b []byte) {
	if o.w != nil && o.err == nil && len(b) > 0 {
		_, o.err = o.w.Write(b)
	}
}
