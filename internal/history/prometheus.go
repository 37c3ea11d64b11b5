package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Prometheus is a range query, or several, of one server.
type Prometheus struct {
	URL     string   // of the server, as http://host:9090
	Queries []string // COLUMN=PROMQL, column as in a CSV
	VM      string   // label that names the VM; default vm
	Host    string   // label that names the host; default host
	From    time.Time
	To      time.Time
	Step    time.Duration
	Client  *http.Client
}

// most points of one answer; a server refuses above 11,000.
const mostPoints = 10_000

// maxAnswer bounds what is read of one answer.
const maxAnswer = 1 << 30

// Prometheus adds what the queries answer.
func (t *Table) Prometheus(ctx context.Context, p Prometheus) error {
	if p.Step <= 0 || !p.To.After(p.From) || len(p.Queries) == 0 {
		return errors.New("want a query, a step, and a time from which on that is before the end")
	}
	names := []string{"vm", "time", "host"}
	var exprs []string
	for _, q := range p.Queries {
		name, expr, ok := strings.Cut(q, "=")
		if !ok || expr == "" {
			return fmt.Errorf("query %.80q: want COLUMN=PROMQL", q)
		}
		names, exprs = append(names, strings.TrimSpace(name)), append(exprs, expr)
	}
	h, err := headOf(names)
	if err != nil {
		return err
	}
	for i, n := range h.names[3:] {
		if h.value[3+i] < 0 {
			return fmt.Errorf("query of %s: no such column; docs/HISTORY.md names them", n)
		}
	}
	if err := t.columns(h.values()); err != nil {
		return err
	}
	type key struct {
		vm, host string
		at       int64
	}
	rows := map[key]*reading{}
	var order []key
	for i, expr := range exprs {
		col := 3 + i
		for from := p.From; from.Before(p.To); from = from.Add(mostPoints * p.Step) {
			to := p.To
			if end := from.Add((mostPoints - 1) * p.Step); end.Before(to) {
				to = end
			}
			series, err := p.ask(ctx, expr, from, to)
			if err != nil {
				return fmt.Errorf("query of %s, from %s: %w", h.names[col], from.UTC().Format(time.RFC3339), err)
			}
			for _, s := range series {
				vm, host := s.Metric[p.VM], s.Metric[p.Host]
				if vm == "" {
					return fmt.Errorf("query of %s: a series without label %s: %v", h.names[col], p.VM, s.Metric)
				}
				for _, v := range s.Values {
					x, err := v.value()
					if err != nil {
						return fmt.Errorf("query of %s, VM %s: %w", h.names[col], vm, err)
					}
					at, err := fromSeconds(v.at)
					if err != nil {
						return fmt.Errorf("query of %s, VM %s: %w", h.names[col], vm, err)
					}
					k := key{vm, host, at}
					r := rows[k]
					if r == nil {
						b := blank()
						r = &b
						r.vm, r.host, r.at = vm, host, at
						rows[k] = r
						order = append(order, k)
						if len(order) > maxRows {
							return fmt.Errorf("more than %d rows: import less at a time", maxRows)
						}
					}
					if x < 0 {
						return fmt.Errorf("query of %s, VM %s: %v: want 0 or more", h.names[col], vm, x)
					}
					r.v[h.value[col]] = float32(x * h.scale[col])
				}
			}
		}
	}
	if len(order) == 0 {
		return errors.New("the server has no values for these queries and times")
	}
	slices.SortStableFunc(order, func(a, b key) int {
		if a.at != b.at {
			return int(min(max(a.at-b.at, -1), 1))
		}
		return strings.Compare(a.vm, b.vm)
	})
	for _, k := range order {
		if err := t.add(rows[k]); err != nil {
			return fmt.Errorf("VM %s: %w", k.vm, err)
		}
	}
	return nil
}

type promSeries struct {
	Metric map[string]string `json:"metric"`
	Values []promValue       `json:"values"`
}

// promValue is [seconds, "value"].
type promValue struct {
	at   float64
	text string
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *promValue) UnmarshalJSON(b []byte) error {
	var pair [2]json.RawMessage
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	return errors.Join(json.Unmarshal(pair[0], &v.at), json.Unmarshal(pair[1], &v.text))
}

func (v promValue) value() (float64, error) {
	x, err := strconv.ParseFloat(v.text, 64)
	if err != nil || math.IsInf(x, 0) {
		return 0, fmt.Errorf("%.40q is no number", v.text)
	}
	return x, nil // NaN is missing
}

func (p *Prometheus) ask(ctx context.Context, expr string, from, to time.Time) ([]promSeries, error) {
	q := url.Values{"query": {expr}, "start": {fmt.Sprintf("%.3f", float64(from.UnixMilli())/1000)}, "end": {fmt.Sprintf("%.3f", float64(to.UnixMilli())/1000)},
		"step": {strconv.FormatFloat(p.Step.Seconds(), 'f', -1, 64)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(p.URL, "/")+"/api/v1/query_range", strings.NewReader(q.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := p.Client
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var out struct {
		Status   string
		Error    string
		Warnings []string
		Data     struct {
			ResultType string
			Result     []promSeries
		}
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("the answer was cut short: %w", err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("status %s: the answer is not what Prometheus says: %w", res.Status, err)
	}
	switch {
	case out.Status != "success":
		return nil, fmt.Errorf("status %s: %s", res.Status, out.Error)
	case out.Data.ResultType != "matrix":
		return nil, fmt.Errorf("the answer is a %.20q, not a matrix", out.Data.ResultType)
	case len(out.Warnings) > 0:
		return nil, fmt.Errorf("the server warns that the answer may lack something: %s", strings.Join(out.Warnings, "; "))
	}
	return out.Data.Result, nil
}
