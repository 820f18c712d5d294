package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/journal"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// cluster says which servers keep the journal; nil: this process does.
func (c *Config) cluster(owner string) *journal.Cluster {
	if len(c.JournalServers) == 0 {
		return nil
	}
	return &journal.Cluster{
		Servers: c.JournalServers, CA: c.JournalCA, Cert: c.JournalCertificate, Key: c.JournalKey, Creds: c.JournalCredentials,
		Stream: c.JournalStream, Owner: owner, Replicas: c.JournalReplicas,
	}
}

// checkJournal finds faults of the journal's keys.
func (c *Config) checkJournal() error {
	bad := func(key, what, hint string) error {
		return core.E(core.Invalid, "config-"+key, "config.yaml: "+key+": "+what, hint)
	}
	if c.JournalMaxBytes < 16<<20 {
		return bad("journal_max_bytes", fmt.Sprintf("%d bytes", c.JournalMaxBytes), "give the journal at least 16777216 bytes (16 MiB)")
	}
	if cluster := c.cluster("any"); cluster != nil {
		if err := cluster.Check(); err != nil {
			return bad("journal_servers", err.Error(), hintOf(err))
		}
	}
	for key, file := range map[string]string{"journal_key": c.JournalKey, "journal_credentials": c.JournalCredentials} {
		if file == "" {
			continue
		}
		if within(c.Data, file) {
			return bad(key, file+" lies inside data", "keep it outside data: a backup of data must not open anything")
		}
		if st, err := os.Stat(file); err == nil && st.Mode().Perm()&0o077 != 0 {
			return bad(key, file+" can be read by others", "chmod 600 "+file)
		}
	}
	return nil
}

// awayFile, in the journal's folder, says that the journal is on other servers.
const awayFile = "on-nats-servers"

// openJournal opens the journal where it is to be. One that changes its place
// must have nothing left at the old one: what is acknowledged and not filed yet
// would else be lost without a word.
func (s *server) openJournal(ctx context.Context) (err error) {
	opt := journal.Options{
		Dir: filepath.Join(s.c.Data, "journal"), MaxBytes: s.c.JournalMaxBytes, Log: s.log, Now: s.opt.Now, Cluster: s.c.cluster(s.inst.ID),
	}
	if s.c.Turns {
		opt.May = s.mayTake
	}
	note, here := filepath.Join(opt.Dir, awayFile), filepath.Join(opt.Dir, "jetstream")
	_, elsewhere := os.Stat(note)
	_, left := os.Stat(here)
	switch {
	case opt.Cluster == nil && elsewhere == nil:
		text, _ := os.ReadFile(note) // without it there is less to tell
		return core.E(core.Conflict, "journal-elsewhere", "the journal is on NATS servers: "+strings.TrimSpace(string(text)),
			"put journal_servers back; to keep the journal here again, let `hawser doctor` show that nothing waits to be filed, stop the server, and remove "+note)
	case opt.Cluster != nil && left == nil:
		if err := s.leaveHere(ctx, opt, here); err != nil {
			return err
		}
	}
	if opt.Cluster != nil {
		if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(note, []byte("stream "+opt.Cluster.Stream+" on "+strings.Join(opt.Cluster.Servers, ", ")+"\n"), 0o600); err != nil {
			return fmt.Errorf("note where the journal is: %w", err)
		}
	}
	s.journal, err = journal.Open(ctx, opt)
	return err
}

// leaveHere removes the journal in this folder, if all of it is filed.
func (s *server) leaveHere(ctx context.Context, opt journal.Options, folder string) error {
	opt.Cluster = nil
	j, err := journal.Open(ctx, opt)
	if err != nil {
		return err
	}
	last, incarnation := j.Durable(), j.Incarnation()
	if err := j.Close(ctx); err != nil {
		return err
	}
	var mark telemetry.Mark
	err = view[telemetry.ProjectionTx](s.store)(ctx, func(tx telemetry.ProjectionTx) (err error) { mark, err = tx.ProjectorMark(ctx); return err })
	if err != nil {
		return err
	}
	if last > 0 && (mark.Journal != incarnation || mark.Seq < last) {
		return core.E(core.Conflict, "journal-not-filed", fmt.Sprintf("the journal in %s holds messages that are not filed yet (%d of %d)", opt.Dir, mark.Seq, last),
			"start once without journal_servers, wait until `hawser doctor` shows nothing behind, stop, and set it again")
	}
	return os.RemoveAll(folder)
}
