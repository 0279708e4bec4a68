// Package metrics has a real Prometheus scrape a daemon whose containers make calls, and evaluates each expression of
// the dashboard and of the alerts.
package metrics
