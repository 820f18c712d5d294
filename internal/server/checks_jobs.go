package server

import (
	"context"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
)

// jobChecks hold that what has to be done again and again is done (CC 5.8).
func (s *server) jobChecks() []check.Check {
	return []check.Check{{
		ID: "jobs.heartbeat", Version: 1, Rows: []string{"5.8"}, Kind: check.Query, MaxAge: check.Critical,
		Says: "Every job has succeeded lately.",
		Do:   "`hawser doctor` says which job failed and why; the log has the rest.",
		Look: s.lookAtJobs,
		Violations: []check.Violation{{
			ID: "a-job-stands-still", Says: "Holds the job that seals each minute's readings, and lets an hour pass.",
			Do: func(_ context.Context, t check.Twin) (func(context.Context) error, error) {
				undo, err := t.Hook("job:epoch-keys")
				if err != nil {
					return nil, err
				}
				t.Advance(time.Hour)
				return func(context.Context) error { undo(); return nil }, nil
			},
		}},
	}}
}

// overdue is how long after its last success a job is late.
func (j *job) overdue() time.Duration { return 3*j.period + time.Minute }

func (s *server) lookAtJobs(_ context.Context, l *check.Look) error {
	l.Expect("jobs wired at start", len(s.jobs))
	for _, j := range s.jobs {
		last, since, failed := j.state()
		l.Touch("job", j.name)
		switch {
		case failed != nil:
			l.Fail(j.name, "fails since %s: %v", since.UTC().Format(time.RFC3339), failed)
		case last.IsZero() && l.Now.Sub(s.started) > j.overdue():
			l.Fail(j.name, "has not succeeded since the start")
		case !last.IsZero() && l.Now.Sub(last) > j.overdue():
			l.Fail(j.name, "last succeeded %s ago; it should every %s", l.Now.Sub(last).Round(time.Second), j.period)
		default:
			l.Pass(1)
		}
	}
	return nil
}
