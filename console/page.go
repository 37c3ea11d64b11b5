package console

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"reflect"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

//go:embed page.html
var pageHTML string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"pct":   func(r schemas.Ratio) string { return fmt.Sprintf("%.0f %%", 100*float64(r)) },
	"share": share,
	"width": func(part, whole any) template.CSS {
		return template.CSS(fmt.Sprintf("%.0f%%", 100*float64(share(part, whole))))
	},
	"second": func(d time.Duration) string { return d.Round(time.Second).String() },
	"cores":  func(m schemas.MilliCPU) string { return fmt.Sprintf("%.1f", float64(m)/1000) },
	"gib":    func(b schemas.Bytes) string { return fmt.Sprintf("%.1f", float64(b)/(1<<30)) },
	"ahead": func(t, now schemas.Time) string {
		switch {
		case t == 0:
			return "–"
		case t <= now:
			return "now"
		}
		return "in " + t.Sub(now).Round(time.Second).String()
	},
	"clock": func(t schemas.Time) string { return t.Std().Format("15:04:05") },
	"heat":  heat,
	"first": func(n int, v any) any {
		switch s := v.(type) {
		case []VM:
			return s[:min(n, len(s))]
		case []Move:
			return s[:min(n, len(s))]
		}
		return v
	},
}).Parse(pageHTML))

// share is part of whole, both of one unit type, as a ratio of at most 1.
func share(part, whole any) schemas.Ratio {
	p, w := reflect.ValueOf(part).Float(), reflect.ValueOf(whole).Float()
	if w <= 0 {
		return 0
	}
	return schemas.Ratio(min(1, p/w))
}

// heat maps a chance to one of four classes of the page's palette.
func heat(r schemas.Ratio) string {
	switch {
	case r >= .6:
		return "hot"
	case r >= .3:
		return "warm"
	case r >= .1:
		return "mild"
	}
	return "calm"
}

// Routes adds the page ("/"), its live part ("/live") and the model as JSON
// ("/api/view") to mux. load reads the fleet; an error of it is shown on the page,
// in words, with status 503.
func Routes(mux *http.ServeMux, load func(context.Context) (*View, error), log *slog.Logger) {
	render := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
			defer cancel()
			data := struct {
				*View
				Counts Counts
				Err    string
			}{View: &View{}}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'")
			w.Header().Set("Cache-Control", "no-store")
			v, err := load(ctx)
			if err != nil {
				data.Err = err.Error()
				w.WriteHeader(http.StatusServiceUnavailable)
			} else {
				data.View, data.Counts = v, v.Count()
			}
			if err := page.ExecuteTemplate(w, name, data); err != nil {
				log.Warn("page not rendered", "error", err)
			}
		}
	}
	mux.HandleFunc("GET /{$}", render("page"))
	mux.HandleFunc("GET /live", render("live"))
	mux.HandleFunc("GET /api/view", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
		defer cancel()
		v, err := load(ctx)
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			err = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
		} else {
			err = json.NewEncoder(w).Encode(v)
		}
		if err != nil {
			log.Warn("view not sent", "error", err)
		}
	})
}
