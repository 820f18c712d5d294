package simulate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// Bounds of a plan.
const (
	MaxDevices = 2000
	MaxFor     = 24 * time.Hour
)

// Plan is a fleet, and what happens to it.
type Plan struct {
	Policy  *declaration.Policy // whose streams the devices send, as often as it says
	Devices int
	Seed    uint64
	For     time.Duration // how long they measure
	Settle  time.Duration // how long after it their queues may take to run empty
	Dir     string        // for the devices' state; it must be there

	StormEvery time.Duration // how often a part of the fleet loses its connections at once; 0: never
	StormShare float64       // how large that part is, 0 to 1
	Loss       float64       // the chance that a connection dies in any minute, 0 to 1
	SkewShare  float64       // how many clocks are wrong, 0 to 1
	SkewMost   time.Duration // by how much at most; every fourth of them says 1970
	SleepShare float64       // how many devices keep their radio off most of the time
	Sleep      time.Duration // for how long at a time
}

// Check says what is wrong with a plan.
func (p *Plan) Check() error {
	share := func(x float64) bool { return x >= 0 && x <= 1 }
	switch {
	case p.Policy == nil || len(p.Policy.Streams) == 0:
		return errors.New("the product declares no stream: there is nothing to send")
	case p.Devices < 1 || p.Devices > MaxDevices:
		return fmt.Errorf("a fleet of %d: give 1 to %d devices", p.Devices, MaxDevices)
	case p.For < time.Second || p.For > MaxFor:
		return fmt.Errorf("a rehearsal of %s: give 1s to %s", p.For, MaxFor)
	case !share(p.StormShare) || !share(p.Loss) || !share(p.SkewShare) || !share(p.SleepShare):
		return errors.New("a share is below 0 or above 1")
	case p.StormEvery < 0 || p.StormEvery > 0 && p.StormEvery < time.Second || p.SkewMost < 0 || p.Sleep < 0 || p.SleepShare > 0 && p.Sleep < time.Second:
		return errors.New("a span of time is negative, or shorter than a second")
	case p.Dir == "":
		return errors.New("there is no folder for the devices' state")
	}
	return nil
}

// unit is one device as the seed makes it.
type unit struct {
	id     core.DeviceID
	rand   *rand.Rand
	phase  float64       // of its day
	offset time.Duration // of its clock
	unset  bool          // its clock was never set
	sleeps bool
}

// Serial is the serial number of the nth device of a seed, from 0.
func Serial(seed uint64, n int) core.DeviceID {
	return core.DeviceID(fmt.Sprintf("SIM-%x-%05d", seed, n))
}

// units are the devices of a plan. The same plan gives the same ones.
func (p *Plan) units() []*unit {
	out := make([]*unit, p.Devices)
	for i := range out {
		r := rand.New(rand.NewPCG(p.Seed, uint64(i)))
		u := &unit{id: Serial(p.Seed, i), rand: r, phase: r.Float64()}
		if r.Float64() < p.SkewShare {
			if u.unset = r.IntN(4) == 0; !u.unset {
				u.offset = time.Duration((2*r.Float64() - 1) * float64(p.SkewMost))
			}
		}
		u.sleeps = r.Float64() < p.SleepShare
		out[i] = u
	}
	return out
}

// now is the unit's own clock.
func (u *unit) now(began time.Time) time.Time {
	if u.unset {
		return time.Unix(0, 0).Add(time.Since(began))
	}
	return time.Now().Add(u.offset)
}
