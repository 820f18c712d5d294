package telemetry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
)

// Tamper is what kind of difference was found in an epoch file.
type Tamper string

// The kinds of difference.
const (
	RowChanged    Tamper = "changed"   // a column of this row is not what it was
	RowDropped    Tamper = "dropped"   // this row is gone
	RowAdded      Tamper = "added"     // this row was never filed by the projector
	RowDoubled    Tamper = "doubled"   // this row is a copy of another one
	BatchChanged  Tamper = "batch"     // a row of this batch was changed together with the batch's own list
	BatchDropped  Tamper = "batches"   // whole batches are gone
	ListChanged   Tamper = "list"      // only the batch's list of rows was changed, the rows are what they were
	LedgerDiffers Tamper = "ledger"    // the batches are whole in themselves, but not those of the ledger
	ControlLies   Tamper = "control"   // the control database and the ledger disagree
	BadStructure  Tamper = "structure" // the engine finds the file inconsistent
	HeadLies      Tamper = "head"      // the file's own count or chain is not that of its rows
)

// Discrepancy is one difference between an epoch file and what the ledger
// holds of it.
type Discrepancy struct {
	Kind    Tamper
	Batch   uint64 // 0: none
	Row     int64  // number of the row in the file; 0: none
	Subject core.Subject
	Stream  string
	Group   uint8
	HasSeq  bool
	Boot    uint64
	Seq     uint64
	T       int64  // Unix milliseconds
	Detail  string // one plain sentence
}

func (d Discrepancy) String() string {
	s := string(d.Kind)
	if d.Row != 0 {
		s += fmt.Sprintf(" row %d", d.Row)
	}
	if d.Batch != 0 {
		s += fmt.Sprintf(" batch %d", d.Batch)
	}
	if !d.Subject.IsZero() {
		s += fmt.Sprintf(" subject %s stream %s", d.Subject, d.Stream)
	}
	if d.HasSeq {
		s += fmt.Sprintf(" boot %d seq %d", d.Boot, d.Seq)
	}
	return s + ": " + d.Detail
}

// maxDiscrepancies bounds what one verification lists; the rest is counted.
const maxDiscrepancies = 1000

// Verification is what VerifyFile found.
type Verification struct {
	Epoch   core.Epoch
	Rows    uint64 // rows in the file
	Batches uint64 // batches in the file
	Sealed  uint64 // the last of them that was compared with a root entry
	Against string // "ledger", or "control database" when no ledger was given
	Found   []Discrepancy
	More    uint64 // found, but not listed
}

// OK reports whether nothing was found.
func (v *Verification) OK() bool { return len(v.Found) == 0 }

func (v *Verification) add(d Discrepancy) {
	if len(v.Found) >= maxDiscrepancies {
		v.More++
		return
	}
	v.Found = append(v.Found, d)
}

// VerifyFile reads every row of an epoch's file and compares it with what the
// ledger holds: it names the row that was changed, dropped, added or doubled
// (mission row 3.3). Batches of the last minute may not be in the ledger yet;
// they are compared with the file's own list only. Who could rewrite rows,
// batches and their list alike is still found by the ledger, which then names
// the minute, not the row. A file that was put aside gives a *BrokenError.
func (x *Roots) VerifyFile(ctx context.Context, e core.Epoch) (Verification, error) {
	v := Verification{Epoch: e, Against: "control database"}
	var own []Sealed
	var info EpochInfo
	err := x.d.View(ctx, func(tx ProjectionTx) (err error) {
		if info, _, err = tx.Epoch(ctx, e); err != nil {
			return err
		}
		own, err = tx.SealedOf(ctx, e)
		return err
	})
	if err != nil {
		return v, fmt.Errorf("verify epoch file %s: %w", e, err)
	}
	roots := own
	if x.d.Ledger != nil {
		v.Against = "ledger"
		if roots, err = x.d.Ledger.Roots(ctx, e); err != nil {
			return v, fmt.Errorf("verify epoch file %s: read the ledger: %w", e, err)
		}
		compareLists(&v, own, roots)
	}
	a := &auditor{v: &v, chain: FirstChain(e), roots: roots}
	err = x.d.Files.Audit(ctx, e, AuditVisitor{Head: a.setHead, Batch: a.batch, Row: a.row, Fault: a.fault})
	if err != nil {
		return v, fmt.Errorf("verify epoch file %s: %w", e, err)
	}
	a.finish(&info)
	if err := a.findCopies(ctx, x.d.Files, e); err != nil {
		return v, fmt.Errorf("verify epoch file %s: %w", e, err)
	}
	return v, nil
}

// compareLists finds where the control database's list of root entries is not
// that of the ledger. The newest may have no index in the ledger yet.
func compareLists(v *Verification, own, ledger []Sealed) {
	for i := range ledger {
		l := &ledger[i]
		if i >= len(own) || own[i].Last != l.Last || own[i].Chain != l.Chain || own[i].Rows != l.Rows {
			v.add(Discrepancy{Kind: ControlLies, Batch: l.Last, Detail: "the control database's list of root entries is not that of the ledger"})
			return
		}
	}
}

// auditor compares a file's rows and batches as they go by.
type auditor struct {
	v     *Verification
	head  Head
	chain core.Hash // by the roots as the file states them
	roots []Sealed  // not compared yet

	open   bool
	cur    Batch
	leaves []core.Hash
	next   int64 // row expected next
	odd    []Discrepancy
	gap    bool // a row of cur is gone
	buf    []byte

	rows   uint64 // in batches
	added  []Discrepancy
	copies map[core.Hash]int // of the sealed bytes of added rows
}

func (a *auditor) setHead(h Head) error {
	a.head = h
	return nil
}

func (a *auditor) fault(detail string) error {
	a.v.add(Discrepancy{Kind: BadStructure, Detail: detail})
	return nil
}

func (a *auditor) batch(b *Batch) error {
	a.close()
	if b.ID != a.v.Batches+1 {
		a.v.add(Discrepancy{Kind: BatchDropped, Batch: a.v.Batches + 1, Detail: fmt.Sprintf("batch %d follows batch %d", b.ID, a.v.Batches)})
	}
	a.open, a.gap = true, false
	a.cur = *b
	a.cur.Sums = bytes.Clone(b.Sums)
	a.next = b.First
	a.leaves, a.odd = a.leaves[:0], a.odd[:0]
	a.v.Batches = b.ID
	return nil
}

func (a *auditor) row(r *Row) error {
	a.v.Rows++
	if !a.open || r.ID < a.next || r.ID >= a.cur.First+int64(a.cur.Count) {
		a.addRow(r)
		return nil
	}
	a.missing(r.ID)
	a.next = r.ID + 1
	a.rows++
	var leaf core.Hash
	leaf, a.buf = LeafHash(r, a.buf)
	a.leaves = append(a.leaves, leaf)
	at := int(r.ID-a.cur.First) * SumSize
	if at+SumSize > len(a.cur.Sums) || !bytes.Equal(a.cur.Sums[at:at+SumSize], leaf[:SumSize]) {
		a.odd = append(a.odd, ofRow(RowChanged, a.cur.ID, r, "the row is not what was filed"))
	}
	return nil
}

func ofRow(kind Tamper, batch uint64, r *Row, detail string) Discrepancy {
	rd := &r.Reading
	return Discrepancy{
		Kind: kind, Batch: batch, Row: r.ID, Subject: rd.Subject, Stream: rd.Stream, Group: r.Part.Group,
		HasSeq: rd.HasSeq, Boot: rd.Boot, Seq: rd.Seq, T: rd.T, Detail: detail,
	}
}

func (a *auditor) addRow(r *Row) {
	if len(a.added) >= maxDiscrepancies {
		a.v.More++
		return
	}
	if a.copies == nil {
		a.copies = map[core.Hash]int{}
	}
	a.copies[sha256.Sum256(r.Part.Sealed)] = len(a.added)
	a.added = append(a.added, ofRow(RowAdded, 0, r, "the row belongs to no batch"))
}

// missing names the rows of the open batch that should have come before id.
func (a *auditor) missing(id int64) {
	for ; a.next < id; a.next++ {
		if a.gap = true; len(a.v.Found) >= maxDiscrepancies { // a count may be a lie of any size
			a.v.More += uint64(id - a.next)
			a.next = id
			return
		}
		a.v.add(Discrepancy{Kind: RowDropped, Batch: a.cur.ID, Row: a.next, Detail: "the row is gone"})
	}
}

// close ends the open batch: its rows against its root, the chain so far
// against the ledger.
func (a *auditor) close() {
	if !a.open {
		return
	}
	a.open = false
	a.missing(a.cur.First + int64(min(a.cur.Count, 1<<40)))
	whole := !a.gap && BatchRoot(a.leaves) == a.cur.Root
	switch {
	case whole && len(a.odd) > 0:
		a.v.add(Discrepancy{Kind: ListChanged, Batch: a.cur.ID, Detail: "the batch's list of rows was changed; its rows are what they were"})
	case len(a.odd) > 0:
		for _, d := range a.odd {
			a.v.add(d)
		}
	case !whole && !a.gap:
		a.v.add(Discrepancy{
			Kind: BatchChanged, Batch: a.cur.ID,
			Detail: fmt.Sprintf("one of the rows %d to %d was changed together with the batch's list, or the batch's root was", a.cur.First, a.next-1),
		})
	}
	a.chain = NextChain(a.chain, &a.cur)
	for len(a.roots) > 0 && a.roots[0].Last <= a.cur.ID {
		r := &a.roots[0]
		switch {
		case r.Last < a.cur.ID:
			a.v.add(Discrepancy{Kind: BatchDropped, Batch: r.Last, Detail: fmt.Sprintf("batches %d to %d of the ledger are not in the file", r.First, r.Last)})
		case r.Chain != a.chain || r.Rows != a.rowsSoFar():
			a.v.add(Discrepancy{
				Kind: LedgerDiffers, Batch: r.Last,
				Detail: fmt.Sprintf("batches %d to %d are not those that the ledger recorded at %s", r.First, r.Last, r.At.Format("2006-01-02T15:04:05Z")),
			})
			a.chain = r.Chain // so that later entries are judged by themselves
		}
		a.v.Sealed = r.Last
		a.roots = a.roots[1:]
	}
}

// rowsSoFar is how many rows the batches so far say that they have.
func (a *auditor) rowsSoFar() uint64 { return uint64(a.cur.First) + a.cur.Count - 1 }

// finish compares the ends.
func (a *auditor) finish(info *EpochInfo) {
	a.close()
	last := a.v.Batches
	if n := len(a.roots); n > 0 {
		a.v.add(Discrepancy{
			Kind: BatchDropped, Batch: last + 1,
			Detail: fmt.Sprintf("batches %d to %d of the ledger are not in the file", last+1, a.roots[n-1].Last),
		})
	} else if info.Head.Batches > last {
		a.v.add(Discrepancy{
			Kind: BatchDropped, Batch: last + 1,
			Detail: fmt.Sprintf("batches %d to %d of the control database are not in the file", last+1, info.Head.Batches),
		})
	}
	if a.head.Batches != last || a.head.Chain != a.chain || last > 0 && a.head.Rows != a.rowsSoFar() {
		a.v.add(Discrepancy{Kind: HeadLies, Detail: "the file's own count or chain is not that of its batches"})
	}
	for _, d := range a.added {
		a.v.add(d)
	}
}

// findCopies looks whether added rows are copies of others: sealed bytes
// begin with a random nonce and never come twice.
func (a *auditor) findCopies(ctx context.Context, files Partitions, e core.Epoch) error {
	if len(a.added) == 0 {
		return nil
	}
	of := map[int64]int64{}
	nothing := func(string) error { return nil }
	err := files.Audit(ctx, e, AuditVisitor{
		Head: func(Head) error { return nil }, Batch: func(*Batch) error { return nil }, Fault: nothing,
		Row: func(r *Row) error {
			i, ok := a.copies[sha256.Sum256(r.Part.Sealed)]
			if ok && a.added[i].Row != r.ID {
				of[a.added[i].Row] = r.ID
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	for i := range a.v.Found {
		d := &a.v.Found[i]
		if orig, ok := of[d.Row]; ok && d.Kind == RowAdded {
			d.Kind, d.Detail = RowDoubled, fmt.Sprintf("the row is a copy of row %d", orig)
		}
	}
	return nil
}
