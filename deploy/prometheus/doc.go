// Package prometheus holds what Prometheus needs to watch Foreshift: alerts.yml, an
// entry of docs/RUNBOOK.md for each of them, and an example of what to scrape. There is
// no code; the test keeps files, runbook and metrics together.
package prometheus
