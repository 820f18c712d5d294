package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
)

const (
	// leastCodeBits is the least strength of an enrolment code (CC 1.9).
	leastCodeBits = 64
	// lookAgain is how long a difference between store and memory must last
	// to count: what is just being committed is shown a moment later.
	lookAgain = 300 * time.Millisecond
)

// Checks hold that no credential is shared, and that the doors go by what the
// store says (CC 1.9, 2.15, 3.2).
func (s *Service) Checks() []check.Check {
	return []check.Check{
		{
			ID: "devices.own-key", Version: 1, Rows: []string{"1.9", "2.15", "3.2"}, Kind: check.Query, MaxAge: check.QueryAge,
			Says: "Every certificate has a public key of its own, which only its own unit ever showed.",
			Do:   "Revoke the units that the finding names (`hawser device show` takes the name), find out who wrote to control.db, and enrol them anew.",
			Look: s.lookAtKeys,
			Violations: []check.Violation{
				{ID: "key-on-two-units", Says: "Puts one unit's public key on a second unit's certificate behind the program's back.", Do: shareKey},
				{ID: "certificate-on-two-units", Says: "Gives a second unit's certificate the fingerprint of the first one's behind the program's back.", Do: sharePrint},
			},
		},
		{
			ID: "codes.distinct", Version: 1, Rows: []string{"1.9", "2.15"}, Kind: check.Query, MaxAge: check.QueryAge,
			Says: "Every unit has an enrolment code of its own, of 64 bits or more, and the store has only its hash.",
			Do:   "Make new codes for the units that the finding names (`hawser device code`), and find out who wrote to control.db.",
			Look: s.lookAtCodes,
			Violations: []check.Violation{
				{ID: "code-on-two-units", Says: "Gives two units one enrolment code behind the program's back.", Do: shareCode},
				{ID: "code-in-clear", Says: "Writes a unit's enrolment code in clear where its hash belongs.", Do: clearCode},
				{ID: "code-too-short", Says: "Notes a code of 32 bits in a unit's birth record.", Do: shortCode},
			},
		},
		{
			ID: "devices.index", Version: 1, Rows: []string{"3.2"}, Kind: check.Query, MaxAge: check.QueryAge,
			Says: "Who the doors believe is a device, from memory, is who the store says.",
			Do:   "Start the server again: it reads the register anew. If the store is the one that is wrong, bring it back from a backup.",
			Look: s.lookAtIndex,
			Violations: []check.Violation{
				{ID: "certificate-removed", Says: "Deletes a unit's certificate from the store behind the program's back.", Do: dropCertificate},
				{ID: "owner-of-certificate-changed", Says: "Writes another unit's name on a certificate behind the program's back.", Do: moveCertificate},
			},
		},
		s.legacyCheck(),
	}
}

// unitName is how findings name a unit: by the random number that the ledger
// uses, too, and that tells a stranger nothing.
func (s *Service) unitName(id core.DeviceID) string {
	if st := s.index.device(id); st != nil {
		return "unit " + core.Subject(st.dev.Unit).String()
	}
	return "a unit that is not registered"
}

// ByUnit finds a device by the name that findings and the ledger give it.
func (s *Service) ByUnit(name string) (core.DeviceID, bool) {
	unit, err := core.ParseSubject(name)
	if err != nil {
		return "", false
	}
	for _, st := range s.index.snapshot() {
		if core.Subject(st.dev.Unit) == unit {
			return st.dev.ID, true
		}
	}
	return "", false
}

// good is how many confirmed certificates memory has.
func (s *Service) good() int {
	n := 0
	for _, st := range s.index.snapshot() {
		if st.confirmed() != nil {
			n++
		}
	}
	return n
}

// twice calls look until its number of things is the one that memory has, or
// nothing changes any more: units enrol while a check runs.
func (s *Service) twice(ctx context.Context, want func() int, look func() (int, error)) (expect int, err error) {
	for range 4 {
		got, err := look()
		if err != nil {
			return 0, err
		}
		if expect = want(); got == expect {
			return expect, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(lookAgain):
		}
	}
	return expect, nil
}

// wrong is one thing that is not as it should be, held back until the look is complete.
type wrong struct{ subject, text string }

func (s *Service) lookAtKeys(ctx context.Context, l *check.Look) error {
	l.Touch("table", "control.db: certificate, device_key")
	var good int
	var bad []wrong
	expect, err := s.twice(ctx, s.good, func() (int, error) {
		good, bad = 0, nil
		byKey, byPrint := map[core.Hash]core.DeviceID{}, map[core.Hash]Serial{}
		confirmed := 0
		err := s.d.View(ctx, func(tx Tx) error {
			return tx.EachStanding(ctx, func(c Standing) error {
				why := s.ownKey(&c, byKey, byPrint)
				if c.State == Confirmed {
					confirmed++
				}
				switch {
				case why != "":
					bad = append(bad, wrong{s.unitName(c.Device), why})
				case c.State == Confirmed:
					good++
				}
				return nil
			})
		})
		return confirmed, err
	})
	if err != nil {
		return err
	}
	l.Expect("good certificates in the memory of the doors", expect)
	l.Pass(good)
	for _, w := range bad {
		l.Fail(w.subject, "%s", w.text)
	}
	return nil
}

// ownKey says what is wrong with whose key a certificate has.
func (s *Service) ownKey(c *Standing, byKey map[core.Hash]core.DeviceID, byPrint map[core.Hash]Serial) string {
	other, seen := byKey[c.Key]
	if !seen {
		byKey[c.Key] = c.Device
	}
	print, again := byPrint[c.Fingerprint]
	if !again {
		byPrint[c.Fingerprint] = c.Serial
	}
	switch {
	case seen && other != c.Device:
		return "its certificate has the public key of " + s.unitName(other)
	case again && print != c.Serial:
		return "one certificate stands in the register twice"
	case c.Tied == "":
		return "the public key of its certificate was never shown by any unit"
	case c.Tied != c.Device:
		return "the public key of its certificate was first shown by " + s.unitName(c.Tied)
	}
	if st := s.index.serial(c.Serial); st != nil {
		if m := st.cert(c.Serial); m != nil && (m.Key != c.Key || m.Fingerprint != c.Fingerprint) {
			return "its certificate as stored is not the one that it enrolled with"
		}
	}
	return ""
}

func (s *Service) lookAtCodes(ctx context.Context, l *check.Look) error {
	l.Touch("table", "control.db: device, device_birth")
	units := func() int { return len(s.index.snapshot()) }
	var good int
	var bad []wrong
	expect, err := s.twice(ctx, units, func() (int, error) {
		good, bad = 0, nil
		by := map[string]core.DeviceID{}
		err := s.d.View(ctx, func(tx Tx) error {
			return tx.EachCode(ctx, func(c CodeStanding) error {
				if why := s.ownCode(&c, by); why != "" {
					bad = append(bad, wrong{s.unitName(c.Device), why})
					return nil
				}
				good++
				return nil
			})
		})
		return good + len(bad), err
	})
	if err != nil {
		return err
	}
	l.Expect("units in the memory of the doors", expect)
	l.Pass(good)
	for _, w := range bad {
		l.Fail(w.subject, "%s", w.text)
	}
	return nil
}

func (s *Service) ownCode(c *CodeStanding, by map[string]core.DeviceID) string {
	born := c.Door == DoorList || c.Door == DoorCA || c.Door == DoorLegacy || c.Door == DoorHub // it came without a code; one made later is as strong as all
	if c.Bits < leastCodeBits && !born {
		return fmt.Sprintf("its enrolment code has %d bits, less than %d", c.Bits, leastCodeBits)
	}
	for _, code := range [][]byte{c.Code, c.Spent} {
		if code == nil {
			continue
		}
		if len(code) != len(core.Hash{}) {
			return "what is stored of its enrolment code is no hash"
		}
		if other, seen := by[string(code)]; seen && other != c.Device {
			return "it has the enrolment code of " + s.unitName(other)
		}
		by[string(code)] = c.Device
	}
	return ""
}

// lookAtIndex compares every certificate. What differs is compared once more a
// moment later: a commit and what memory shows of it are not one.
func (s *Service) lookAtIndex(ctx context.Context, l *check.Look) error {
	l.Touch("table", "control.db: certificate")
	l.Touch("source", "the index of devices that the doors ask")
	suspects, good, err := s.differ(ctx)
	if err != nil {
		return err
	}
	if len(suspects) > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookAgain):
		}
		again, n, err := s.differ(ctx)
		if err != nil {
			return err
		}
		good = n
		for serial, why := range again {
			if _, before := suspects[serial]; before {
				l.Fail(s.unitName(why.device), "%s", why.text)
			} else {
				good++ // just being committed
			}
		}
		suspects = again
	}
	l.Expect("certificates in the store or in memory", good+failing(suspects))
	l.Pass(good)
	return nil
}

func failing(m map[Serial]difference) int { return len(m) }

type difference struct {
	device core.DeviceID
	text   string
}

// differ says which certificates the store and memory do not have alike, and
// how many they do.
func (s *Service) differ(ctx context.Context) (map[Serial]difference, int, error) {
	now := s.d.Now()
	mine := map[Serial]CertificateRow{}
	for _, st := range s.index.snapshot() {
		for _, c := range keepLive(st.certs, now) {
			mine[c.Serial] = c
		}
	}
	out := map[Serial]difference{}
	good := 0
	err := s.d.View(ctx, func(tx Tx) error {
		return tx.EachStanding(ctx, func(c Standing) error {
			m, known := mine[c.Serial]
			delete(mine, c.Serial)
			switch {
			case !known && c.State != Confirmed && !now.Before(c.NotAfter):
				// ran out: neither of the two needs it
			case !known:
				out[c.Serial] = difference{c.Device, fmt.Sprintf("the store has a certificate of it (%s) that the doors do not know", c.State)}
			case m.Device != c.Device:
				out[c.Serial] = difference{m.Device, "the store gives its certificate to " + s.unitName(c.Device)}
			case m.State != c.State:
				out[c.Serial] = difference{c.Device, fmt.Sprintf("its certificate is %s in the store, and %s to the doors", c.State, m.State)}
			case m.Fingerprint != c.Fingerprint || m.Key != c.Key:
				out[c.Serial] = difference{c.Device, "its certificate in the store is another than the doors know"}
			default:
				good++
			}
			return nil
		})
	})
	if err != nil {
		return nil, 0, err
	}
	for serial, c := range mine {
		out[serial] = difference{c.Device, "the doors let a certificate of it in that the store does not have"}
	}
	return out, good, nil
}

// Ended are the certificates that the store says must not get in, by serial
// number. A door is held against it (CC 3.2).
func (s *Service) Ended(ctx context.Context) (map[Serial]Ended, error) {
	out := map[Serial]Ended{}
	err := s.d.View(ctx, func(tx Tx) error {
		clear(out)
		return tx.EachEnded(ctx, s.d.Now(), func(e Ended) error { out[e.Serial] = e; return nil })
	})
	if err != nil {
		return nil, fmt.Errorf("read ended certificates: %w", err)
	}
	return out, nil
}

// Admitted reports whether memory would let a certificate in.
func (s *Service) Admitted(serial Serial) bool {
	st := s.index.serial(serial)
	if st == nil || !st.dev.Revoked.IsZero() {
		return false
	}
	c := st.cert(serial)
	return c != nil && (c.State == Confirmed || c.State == Issued)
}

// UnitName is how findings name a device.
func (s *Service) UnitName(id core.DeviceID) string { return s.unitName(id) }
