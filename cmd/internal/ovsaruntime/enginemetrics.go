package ovsaruntime

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/ovsactl/ovsactl/licensing/hosting"
)

// engineMetrics are those of the model server of ours, which has no network to tell them
// by. While there is none, there are none.
type engineMetrics struct{ client *http.Client } // nil for a server of somebody else's

// metricsOf are those of an engine; of a server of somebody else's there are none.
func metricsOf(c hosting.Command) engineMetrics {
	if !strings.HasPrefix(c.REST, "unix:") {
		return engineMetrics{}
	}
	return engineMetrics{c.Client()}
}

const (
	maxMetrics  = 4 << 20 // bytes
	metricsTime = 5 * time.Second
)

// Gather implements prometheus.Gatherer.
func (e engineMetrics) Gather() ([]*dto.MetricFamily, error) {
	if e.client == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), metricsTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := e.client.Do(request)
	if err != nil {
		return nil, nil // it does not run: the runtime's own metrics say so
	}
	defer response.Body.Close()
	var families []*dto.MetricFamily
	decoder := expfmt.NewDecoder(io.LimitReader(response.Body, maxMetrics), expfmt.ResponseFormat(response.Header))
	for {
		family := new(dto.MetricFamily)
		if err := decoder.Decode(family); errors.Is(err, io.EOF) {
			return families, nil
		} else if err != nil {
			return families, err
		}
		families = append(families, family)
	}
}
