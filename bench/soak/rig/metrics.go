package rig

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Metrics reads the running server's metrics that have no labels, by name.
func (h *Home) Metrics(ctx context.Context) (map[string]float64, error) {
	c := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(h.Dir, "data", "hawser.sock"))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, "GET", "http://hawser/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics: %s", resp.Status)
	}
	out := map[string]float64{}
	s := bufio.NewScanner(resp.Body)
	for s.Scan() {
		name, value, ok := strings.Cut(s.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") || strings.Contains(name, "{") {
			continue
		}
		if out[name], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
	}
	return out, s.Err()
}

// Metric is one metric, by the end of its name.
func (h *Home) Metric(ctx context.Context, name string) (float64, error) {
	all, err := h.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	for k, v := range all {
		if strings.HasSuffix(k, name) {
			return v, nil
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// Settle waits until everything that the journal holds is filed.
func (h *Home) Settle(ctx context.Context) error {
	for {
		behind, err := h.Metric(ctx, "projector_behind_batches")
		if err != nil || behind == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%.0f batches are not filed yet: %w", behind, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
