package gateway

import (
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// refusal names why a connection, not a message, was refused or ended. The
// names are stable: counters, the log and tests use them. They stay inside;
// the client sees a closed connection, an alert or a reason code.
type refusal string

// Why a connection did not come to be, or was ended by the gateway.
const (
	refuseFull      refusal = "connections-full"         // as many connections as may be
	refuseBusy      refusal = "handshakes-full"          // as many waiting as may be
	refuseSource    refusal = "source-connections"       // too many unauthenticated ones from one address
	refuseSlow      refusal = "handshake-timeout"        // the handshake took too long
	refuseNoSlot    refusal = "handshake-queue"          // no processor slot in time
	refuseNotTLS    refusal = "not-tls"                  // cleartext, or nothing that TLS knows
	refuseVersion   refusal = "tls-version"              // an older TLS than is spoken here
	refuseCipher    refusal = "tls-cipher"               // no cipher suite or key exchange in common
	refuseNoCert    refusal = "no-certificate"           // the client showed none
	refuseHandshake refusal = "handshake-failed"         // any other fault of TLS
	refuseGone      refusal = "handshake-aborted"        // the client left
	refuseByClient  refusal = "client-refused-server"    // the client sent an alert about our certificate
	refuseSize      refusal = "handshake-size"           // too many bytes
	refuseExpired   refusal = "certificate-expired"      // or not valid yet
	refuseAuthority refusal = "foreign-authority"        // not signed by this installation
	refuseElsewhere refusal = "foreign-environment"      // of the other environment
	refuseUsage     refusal = "certificate-usage"        // not exactly for client authentication
	refuseChain     refusal = "certificate-chain"        // any other fault of the certificate
	refuseTLS12     refusal = "tls-1.2-not-declared"     // the product does not declare TLS 1.2
	refuseQuiet     refusal = "connect-timeout"          // no CONNECT in time
	refuseFirst     refusal = "first-packet-not-connect" // [MQTT-3.1.0-1]
	refuseStopping  refusal = "shutting-down"
	refuseBackOff   refusal = "back-off"                // after violations
	refuseConnects  refusal = "connects-too-often"      // one device connects too often
	refuseClientID  refusal = "client-id"               // too long, or empty where 3.1.1 forbids it
	refuseWillQoS   refusal = "will-qos"                // more than is offered
	refuseAuth      refusal = "enhanced-authentication" // not offered
	refuseProtocol  refusal = "protocol-version"        // neither 3.1.1 nor 5.0
	refuseIdentity  refusal = "identity-unavailable"    // our trouble while looking the device up

	refuseClaim    refusal = "session-elsewhere" // another gateway has the session and did not let go
	endDoubt       refusal = "gateway-alone"     // this gateway does not know who is welcome
	endTakeOver    refusal = "taken-over"        // the device connected anew
	endThird       refusal = "third-client"      // a third client id of one device
	endKeepAlive   refusal = "keep-alive"        // nothing heard for 1.5 times the keep-alive
	endExpired     refusal = "expired-meanwhile" // the certificate ended during the session
	endSlowReader  refusal = "slow-reader"       // the client does not read
	endTrouble     refusal = "trouble"           // ours: journal, disk, keys
	endFlood       refusal = "flood"             // over its rate, again and again
	endForeign     refusal = "foreign-topics"    // named another device, again and again
	endAliasRange  refusal = "topic-alias"       // unknown or too large
	endQoS2        refusal = "qos-2"
	endMisplaced   refusal = "misplaced-packet" // a packet that must not come now
	endMalformed   refusal = "malformed"        // the codec refused it
	endPanic       refusal = "panic"            // a fault of ours, confined to the connection
	endLost        refusal = "connection-lost"  // the network or the client went away
	endLeft        refusal = "left"             // DISCONNECT
	endSubID       refusal = "subscription-identifier"
	endSuperseded  refusal = "superseded" // a newer certificate of the device has come
	endRevoked     refusal = "revoked"
	endWithdrawn   refusal = "identity-withdrawn"
	endPacketLarge refusal = "packet-too-large"
	endReleased    refusal = "released" // from quarantine: what was withheld is to be sent again
)

// counters are what the gateway counts. All are totals since it was made.
type counters struct {
	accepted, handshakes, connected, disconnected      atomic.Uint64
	takeOvers, wills, willsRefused, panics             atomic.Uint64
	received, receivedBytes, qos0, qos2, duplicates    atomic.Uint64
	pending, ackedByRule, refused, dropped, trouble    atomic.Uint64
	acks, ackWrites, pauses, pausedNanos               atomic.Uint64
	passwords, retained, subscribed, subscribeRefused  atomic.Uint64
	notices, slowReaders, logSuppressed, missedRefused atomic.Uint64
	tls12, rivals, skippedBytes, withheld              atomic.Uint64
	downSent, downTaken, downTooLarge, downTrouble     atomic.Uint64
	replies, reports, proposals                        atomic.Uint64
}

// Stats is a picture of the gateway's counters. Counts are totals since the
// start unless said otherwise; durations are in seconds.
type Stats struct {
	Open            int     // TCP connections open now
	Unauthenticated int     // of these, not authenticated yet
	Sessions        int     // devices' sessions now
	Devices         int     // devices remembered now, connected or not
	Accepted        uint64  // TCP connections accepted
	Handshakes      uint64  // TLS handshakes completed
	TLS12           uint64  // of these, with TLS 1.2
	Connected       uint64  // CONNECTs accepted
	Disconnected    uint64  // sessions ended
	TakeOvers       uint64  // sessions ended because their device came anew
	Rivals          uint64  // times that two were found to use one certificate
	Received        uint64  // PUBLISH packets
	ReceivedBytes   uint64  // payload bytes in them
	SkippedBytes    uint64  // bytes of messages that are larger than any may be, thrown away unread
	QoS0            uint64  // of the PUBLISH packets, at QoS 0
	QoS2            uint64  // of the PUBLISH packets, at QoS 2 (3.1.1)
	Resent          uint64  // marked as sent before (DUP)
	Submitted       uint64  // judged good and given to the journal
	AckedByRule     uint64  // acknowledged, nothing stored, as the rules have it
	Refused         uint64  // messages refused
	Withheld        uint64  // messages of devices in quarantine, left without an answer until the release
	DroppedQoS0     uint64  // of these, at QoS 0: nobody is told
	Trouble         uint64  // messages not acknowledged because of our trouble
	Unrecorded      uint64  // refusals at QoS 0 whose record the journal did not take
	Acks            uint64  // PUBACKs written
	AckWrites       uint64  // TLS records they were written in
	Pauses          uint64  // times that reading stopped for a pace
	PausedSeconds   float64 // for how long, in all
	Wills           uint64  // wills that fired
	WillsRefused    uint64  // of these, refused
	Passwords       uint64  // devices that sent a user name or password, which is ignored
	Retained        uint64  // messages whose retain flag was cleared
	Subscribed      uint64  // filters granted
	SubscribeDenied uint64  // filters refused
	Notices         uint64  // notices sent on the topic refused
	Commands        uint64  // commands sent to devices, repeats included
	CommandsTaken   uint64  // of these, acknowledged
	CommandsBarred  uint64  // not sent, because the client takes no packet so large
	CommandTrouble  uint64  // times that commands could not be read or noted
	Replies         uint64  // answers to commands, recorded
	Reports         uint64  // of how a device is set, taken
	Proposals       uint64  // of children by hubs, noted
	SlowReaders     uint64  // connections closed because the client did not read
	Panics          uint64  // faults of ours, each confined to one connection
	LogSuppressed   uint64  // log lines left out to keep the log bounded

	// Ended counts connections refused or ended, by reason.
	Ended map[string]uint64
	// RefusedBy counts messages refused, by telemetry's reason.
	RefusedBy map[string]uint64
}

// Stats is a picture of the counters now.
func (g *Gateway) Stats() Stats {
	c := &g.count
	s := Stats{
		Accepted: c.accepted.Load(), Handshakes: c.handshakes.Load(), TLS12: c.tls12.Load(),
		Connected: c.connected.Load(), Disconnected: c.disconnected.Load(), TakeOvers: c.takeOvers.Load(), Rivals: c.rivals.Load(),
		Received: c.received.Load(), ReceivedBytes: c.receivedBytes.Load(), SkippedBytes: c.skippedBytes.Load(), QoS0: c.qos0.Load(), QoS2: c.qos2.Load(), Resent: c.duplicates.Load(),
		Submitted: c.pending.Load(), AckedByRule: c.ackedByRule.Load(), Refused: c.refused.Load(),
		Withheld: c.withheld.Load(), DroppedQoS0: c.dropped.Load(), Trouble: c.trouble.Load(), Unrecorded: c.missedRefused.Load(),
		Acks: c.acks.Load(), AckWrites: c.ackWrites.Load(), Pauses: c.pauses.Load(),
		PausedSeconds: time.Duration(c.pausedNanos.Load()).Seconds(), Wills: c.wills.Load(), WillsRefused: c.willsRefused.Load(),
		Passwords: c.passwords.Load(), Retained: c.retained.Load(), Subscribed: c.subscribed.Load(),
		SubscribeDenied: c.subscribeRefused.Load(), Notices: c.notices.Load(), SlowReaders: c.slowReaders.Load(),
		Commands: c.downSent.Load(), CommandsTaken: c.downTaken.Load(), CommandsBarred: c.downTooLarge.Load(), CommandTrouble: c.downTrouble.Load(), Replies: c.replies.Load(), Reports: c.reports.Load(), Proposals: c.proposals.Load(),
		Panics: c.panics.Load(), LogSuppressed: c.logSuppressed.Load(),
		Ended: g.ended.totals(), RefusedBy: g.refusedBy.totals(),
	}
	s.Open, s.Unauthenticated = g.lobby.counts()
	s.Sessions, s.Devices = g.table.counts()
	return s
}

// tally counts by name. The names are the constants of this program, so there
// are few.
type tally struct {
	mu sync.Mutex
	by map[string]uint64
}

func (t *tally) add(name string) {
	t.mu.Lock()
	if t.by == nil {
		t.by = map[string]uint64{}
	}
	t.by[name]++
	t.mu.Unlock()
}

func (t *tally) totals() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.by)
}

// Refusal is one connection that was refused or ended by the gateway, as the
// bounded log in memory holds it (CC 4.17: who tries to get in, with reason).
type Refusal struct {
	Time    time.Time
	Reason  string
	Source  netip.Prefix // shortened: /24 for IPv4, /48 for IPv6
	Subject core.Subject // whose device it was; zero: nobody's, or not authenticated
}

const (
	recentRefusals    = 256
	logLinesPerMinute = 30 // of each reason
)

// diary holds the last refusals and keeps the log bounded: strangers cannot
// make it grow.
type diary struct {
	mu     sync.Mutex
	recent []Refusal // a ring
	next   int
	lines  map[string]*lineBudget
}

type lineBudget struct {
	minute  int64
	written int
}

// note remembers r and says whether there is room for a line in the log.
func (d *diary) note(r Refusal) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.recent) < recentRefusals {
		d.recent = append(d.recent, r)
	} else {
		d.recent[d.next] = r
		d.next = (d.next + 1) % recentRefusals
	}
	if d.lines == nil {
		d.lines = map[string]*lineBudget{}
	}
	b := d.lines[r.Reason]
	if b == nil {
		b = &lineBudget{}
		d.lines[r.Reason] = b
	}
	if m := r.Time.Unix() / 60; m != b.minute {
		b.minute, b.written = m, 0
	}
	b.written++
	return b.written <= logLinesPerMinute
}

// Refusals are the last connections refused or ended, oldest first; at most
// 256 are kept.
func (g *Gateway) Refusals() []Refusal {
	d := &g.diary
	d.mu.Lock()
	defer d.mu.Unlock()
	return append(append([]Refusal(nil), d.recent[d.next:]...), d.recent[:d.next]...)
}

// shorten keeps of an address what tells networks apart, not households.
func shorten(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// refuse counts, remembers and logs why a connection was refused or ended.
func (g *Gateway) refuse(why refusal, from netip.Addr, subject core.Subject, detail error) {
	g.ended.add(string(why))
	r := Refusal{Time: g.now(), Reason: string(why), Source: shorten(from), Subject: subject}
	if !g.diary.note(r) {
		g.count.logSuppressed.Add(1)
		return
	}
	attrs := []slog.Attr{slog.String("reason", r.Reason), slog.String("source", r.Source.String())}
	if !subject.IsZero() {
		attrs = append(attrs, slog.String("subject", subject.String()))
	}
	if detail != nil {
		attrs = append(attrs, slog.Any("err", detail))
	}
	g.deps.Log.LogAttrs(g.ctx, slog.LevelInfo, "device connection refused or ended", attrs...)
}
