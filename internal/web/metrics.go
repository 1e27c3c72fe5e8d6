package web

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what Prometheus may read of this process.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	streams  *prometheus.GaugeVec
	logLines prometheus.Counter
}

func newMetrics(reads Reads) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "portolan_http_request_duration_seconds", Help: "Time to answer a request; of streams, how long they were open.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60, 600},
		}, []string{"method", "route", "status"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "portolan_open_streams", Help: "Event streams that are open now.",
		}, []string{"route"}),
		logLines: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "portolan_log_lines_total", Help: "Log lines sent to readers.",
		}),
	}
	m.registry.MustRegister(m.requests, m.streams, m.logLines, fleetCollector{reads},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// fleetCollector counts what there is at the time of a scrape.
type fleetCollector struct{ reads Reads }

var (
	workloadsDesc  = prometheus.NewDesc("portolan_workloads", "Workloads that there are.", nil, nil)
	clustersDesc   = prometheus.NewDesc("portolan_clusters", "Clusters that are registered.", nil, nil)
	unfinishedDesc = prometheus.NewDesc("portolan_operations_unfinished", "Operations that are queued or running.", nil, nil)
)

// Describe implements prometheus.Collector.
func (fleetCollector) Describe(out chan<- *prometheus.Desc) {
	out <- workloadsDesc
	out <- clustersDesc
	out <- unfinishedDesc
}

// collectTimeout is a little less than what Prometheus waits by default
// (scrape_timeout of its configuration: 10 s).
const collectTimeout = 8 * time.Second

// Collect implements prometheus.Collector.
func (c fleetCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	n, err := c.reads.NavCounts(ctx)
	if err != nil {
		for _, d := range []*prometheus.Desc{workloadsDesc, clustersDesc, unfinishedDesc} {
			out <- prometheus.NewInvalidMetric(d, err)
		}
		return
	}
	out <- prometheus.MustNewConstMetric(workloadsDesc, prometheus.GaugeValue, float64(n.Workloads))
	out <- prometheus.MustNewConstMetric(clustersDesc, prometheus.GaugeValue, float64(n.Clusters))
	out <- prometheus.MustNewConstMetric(unfinishedDesc, prometheus.GaugeValue, float64(n.Running))
}

func (m *metrics) request(method, route string, status int, took time.Duration) {
	if route == "" {
		route = "none" // what nobody serves has no name of its own
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}

// MetricsHandler answers /metrics, and /healthz and /readyz as Handler does. It
// belongs on a listener of its own: what it tells is not for everybody.
func (s *Server) MetricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	return mux
}

// Metrics lets other parts of the process add theirs.
func (s *Server) Metrics() prometheus.Registerer { return s.metrics.registry }
