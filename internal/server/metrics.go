package server

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsHandler serves the metrics, on the local socket only. Names carry
// their unit; labels have few values, never a serial number.
func (s *server) metricsHandler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{s: s})
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// collector reads the counters of the parts when it is asked.
type collector struct{ s *server }

// Describe sends nothing: the collector is unchecked, because the reasons that
// become labels are the parts' own.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	put := func(kind prometheus.ValueType, name, help string, v float64, labels ...string) {
		var names, values []string
		for i := 0; i+1 < len(labels); i += 2 {
			names, values = append(names, labels[i]), append(values, labels[i+1])
		}
		d := prometheus.NewDesc("hawser_"+name, help, names, nil)
		ch <- prometheus.MustNewConstMetric(d, kind, v, values...)
	}
	count := func(name, help string, v uint64, labels ...string) {
		put(prometheus.CounterValue, name, help, float64(v), labels...)
	}
	gauge := func(name, help string, v float64, labels ...string) {
		put(prometheus.GaugeValue, name, help, v, labels...)
	}

	if c.s.c.Store != "" {
		st := c.s.store.State()
		gauge("store_connections", "Connections to the database of the store now.", float64(st.Connections))
		gauge("store_allowed_connections", "Connections to the database of the store that there may be.", float64(st.Most))
		count("store_connection_waits_total", "Times that something waited for a connection to the database of the store.", st.Waits)
		gauge("store_trouble", "1 while the database of the store cannot be used, else 0.", float64(number(st.Trouble != nil)))
	}
	if c.s.links.Keeper != nil {
		for _, x := range c.s.links.Gateways() {
			gauge("joined_gateway_sessions", "Devices' sessions at a server that takes devices in for this one.", float64(x.Sessions), "gateway", x.Name)
			gauge("joined_gateway_lost", "1 while a server that took devices in for this one is not heard of, else 0.", float64(number(x.Lost)), "gateway", x.Name)
			count("joined_gateway_accepted_total", "Readings that a server accepted for this one, since it was started.", x.Accepted, "gateway", x.Name)
			count("joined_gateway_refused_total", "Messages that a server refused for this one, since it was started.", x.Refused, "gateway", x.Name)
		}
	}
	g := c.s.gateway.Stats()
	gauge("gateway_connections", "TCP connections open now at the devices' door.", float64(g.Open))
	gauge("gateway_sessions", "Devices' sessions now.", float64(g.Sessions))
	count("gateway_handshakes_total", "TLS handshakes completed.", g.Handshakes)
	count("gateway_handshakes_tls12_total", "TLS handshakes completed with TLS 1.2.", g.TLS12)
	count("gateway_received_messages_total", "PUBLISH packets received.", g.Received)
	count("gateway_received_bytes_total", "Payload bytes received.", g.ReceivedBytes)
	count("gateway_acks_total", "PUBACKs written.", g.Acks)
	count("gateway_unacknowledged_messages_total", "Messages not acknowledged because of trouble of the server's own.", g.Trouble)
	count("gateway_pauses_total", "Times that reading stood still for a device's or product's pace.", g.Pauses)
	put(prometheus.CounterValue, "gateway_paused_seconds_total", "Time that reading stood still for a device's or product's pace.", g.PausedSeconds)
	count("gateway_rivals_total", "Times that two were found to take one certificate's session from each other.", g.Rivals)
	count("gateway_panics_total", "Faults of the server, each confined to one connection.", g.Panics)
	gauge("gateway_unauthenticated_connections", "TCP connections open now that have not been authenticated yet.", float64(g.Unauthenticated))
	gauge("gateway_remembered_devices", "Devices that the door remembers, connected or not.", float64(g.Devices))
	count("gateway_accepted_connections_total", "TCP connections accepted.", g.Accepted)
	count("gateway_connects_total", "CONNECTs accepted.", g.Connected)
	count("gateway_disconnects_total", "Sessions ended.", g.Disconnected)
	count("gateway_take_overs_total", "Sessions ended because their device came anew.", g.TakeOvers)
	count("gateway_skipped_bytes_total", "Bytes of messages larger than any may be, thrown away.", g.SkippedBytes)
	count("gateway_qos2_messages_total", "PUBLISH packets received at QoS 2.", g.QoS2)
	count("gateway_qos0_messages_total", "PUBLISH packets received at QoS 0.", g.QoS0)
	count("gateway_resent_messages_total", "PUBLISH packets received that were marked as sent before.", g.Resent)
	count("gateway_withheld_messages_total", "Messages of devices in quarantine that were left without an answer.", g.Withheld)
	count("gateway_dropped_qos0_messages_total", "Messages refused at QoS 0, of which nobody is told.", g.DroppedQoS0)
	count("gateway_unrecorded_refusals_total", "Refusals at QoS 0 whose record the journal did not take.", g.Unrecorded)
	count("gateway_wills_total", "Wills that fired.", g.Wills)
	count("gateway_refused_wills_total", "Wills that fired and were refused.", g.WillsRefused)
	count("gateway_passwords_total", "Devices that sent a user name or password, which is ignored.", g.Passwords)
	count("gateway_retained_messages_total", "Messages whose retain flag was cleared.", g.Retained)
	count("gateway_granted_filters_total", "Subscription filters granted.", g.Subscribed)
	count("gateway_refused_filters_total", "Subscription filters refused.", g.SubscribeDenied)
	count("gateway_commands_total", "Commands and settings sent to devices, repeats included.", g.Commands)
	count("gateway_commands_taken_total", "Commands and settings that their devices acknowledged.", g.CommandsTaken)
	count("gateway_commands_too_large_total", "Commands and settings not sent because the client takes no packet so large.", g.CommandsBarred)
	count("gateway_command_trouble_total", "Times that commands could not be read or noted.", g.CommandTrouble)
	count("gateway_proposals_total", "Proposals of children by hubs, noted.", g.Proposals)
	count("gateway_replies_total", "Answers to commands, recorded.", g.Replies)
	count("gateway_reports_total", "Reports of how a device is set, taken.", g.Reports)
	count("gateway_notices_total", "Notices sent on the topic refused.", g.Notices)
	count("gateway_slow_readers_total", "Connections closed because the client did not read.", g.SlowReaders)
	count("gateway_suppressed_log_lines_total", "Log lines left out to keep the log bounded.", g.LogSuppressed)
	for reason, n := range g.RefusedBy {
		count("gateway_refused_messages_total", "Messages refused at the door, by reason.", n, "reason", reason)
	}
	for reason, n := range g.Ended {
		count("gateway_ended_connections_total", "Connections refused or ended, by reason.", n, "reason", reason)
	}

	in := c.s.intake.Counters()
	count("intake_accepted_messages_total", "Messages accepted and recorded.", in.Accepted)
	count("intake_dropped_fields_total", "Undeclared or bad fields dropped from accepted messages.", in.UndeclaredFields+in.BadFields+in.OldFields)
	for reason, n := range in.Refused {
		count("intake_refused_messages_total", "Messages refused, by reason.", n, "reason", string(reason))
	}
	for reason, n := range in.Dropped {
		count("intake_dropped_messages_total", "Messages acknowledged and not stored, by reason.", n, "reason", string(reason))
	}

	for reason, n := range c.s.devices.Refusals() {
		count("identity_refusals_total", "Enrolments, renewals and certificates refused, by reason.", n, "reason", reason)
	}
	for state, n := range c.s.devices.Counts().ByState {
		gauge("identity_devices", "Units of the register, by state.", float64(n), "state", string(state))
	}

	j := c.s.journal.State()
	gauge("journal_bytes", "Bytes that the journal holds.", float64(j.Bytes))
	gauge("journal_limit_bytes", "Bytes at which the journal stops acknowledging.", float64(j.MaxBytes))
	gauge("journal_queued_records", "Records that wait for their commit.", float64(j.Queued))
	gauge("journal_trouble", "1 while nothing is acknowledged.", truth(j.Trouble != nil))

	p := c.s.telem.projector.State()
	gauge("projector_behind_batches", "Batches of the journal that are not filed yet.", float64(p.Behind))
	count("projector_rows_total", "Rows filed since the start.", p.Rows)
	gauge("projector_trouble", "1 while nothing is filed.", truth(p.Trouble != nil))

	l := c.s.ledger.Status()
	gauge("ledger_entries", "Entries of the present origin.", float64(l.Size))
	gauge("ledger_signed_entries", "Entries under the last checkpoint.", float64(l.Signed))
	gauge("keyring_generation", "Generation of the root that wraps the keyring.", float64(c.s.ring.Generation()))
	if g, err := c.s.gate.State(context.Background()); err == nil { // what cannot be read is not shown
		for _, m := range g.Means {
			count("gate_tries_total", "Credentials that were compared.", m.Attempts, "means", string(m.Means))
			count("gate_refused_total", "Tries that were refused unseen: too many came before.", m.Refused, "means", string(m.Means))
		}
		gauge("gate_held_accounts", "Accounts at which only known devices and passkeys get in for now.", float64(g.Held))
	}
	for _, j := range c.s.jobs {
		last, _, failed := j.state()
		if !last.IsZero() {
			gauge("job_last_success_timestamp_seconds", "When the job last succeeded, Unix time.", float64(last.UnixMilli())/1000, "job", j.name)
		}
		gauge("job_failing", "1 while the job fails.", truth(failed != nil), "job", j.name)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// number is a truth as metrics have it.
func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
