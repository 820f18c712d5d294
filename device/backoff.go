package device

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/hawser-iot/hawser/internal/mqtt"
)

// The bounds of the pause before the next connection.
const (
	firstPause  = time.Second
	longestWait = 5 * time.Minute
	refusedWait = time.Minute // after the server said no, not "not now"
	stableAfter = time.Minute // a session this long forgets earlier trouble
)

// backoff grows with every failure and is drawn at random, so that a fleet
// that was cut off together does not come back together.
type backoff struct {
	first time.Duration
	tries int
	draw  func() float64 // [0, 1)
}

// next is the pause before the next try: drawn evenly from the upper half of
// an interval that doubles with every try, at least floor.
func (b *backoff) next(floor time.Duration) time.Duration {
	d := b.first << min(b.tries, 20)
	d = min(d, longestWait)
	b.tries++
	if d < floor {
		d = floor
	}
	return d/2 + time.Duration(b.draw()*float64(d/2)) + floor/2
}

func (b *backoff) reset() { b.tries = 0 }

// random draws from [0, 1).
func random() float64 {
	var b [8]byte
	// Never fails (crypto/rand documents so).
	_, _ = rand.Read(b[:])
	return float64(binary.BigEndian.Uint64(b[:])>>11) / (1 << 53)
}

// floorFor is the least pause that the server's reason asks for.
func floorFor(c mqtt.ReasonCode) time.Duration {
	switch c {
	case mqtt.ServerShuttingDown, mqtt.AdministrativeAction:
		// It is about to start again; or somebody of the maker ended this one
		// session, at the end of a quarantine for one.
		return 2 * time.Second
	case mqtt.ServerBusy, mqtt.ServerUnavailable, mqtt.ConnectionRateExceeded, mqtt.QuotaExceeded, mqtt.MessageRateTooHigh:
		return 10 * time.Second
	case mqtt.SessionTakenOver:
		// Somebody else uses this certificate, or an old process of this device:
		// two that take the session from each other in turn help nobody.
		return 30 * time.Second
	case mqtt.NotAuthorized, mqtt.Banned, mqtt.BadUserNameOrPassword,
		mqtt.UseAnotherServer, mqtt.ServerMoved, mqtt.UnsupportedProtocolVersion, mqtt.ClientIDNotValid,
		mqtt.MalformedPacket, mqtt.ProtocolError:
		// Trying harder changes nothing. Another server is not followed: which
		// one to trust comes with the firmware.
		return refusedWait
	}
	return 0
}
