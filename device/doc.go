// Package device is the client library that a maker builds firmware on. It
// makes the unit's own key, enrols it and renews its certificate (EST, RFC
// 7030 and RFC 8951), refuses every server that its pinned bundle does not
// vouch for, keeps readings in a bounded queue on disk until the server has
// acknowledged them, and hands them over by MQTT 5 over mutual TLS 1.3.
//
// A program opens a Device once, sends readings whenever it has some, also
// while there is no network, and lets Run do the rest:
//
//	d, err := device.Open(device.Config{
//		Serial:        "A1",
//		Server:        "gateway.example:8883",
//		Roots:         bundle, // PEM, shipped with the firmware
//		StateDir:      "/var/lib/thermostat",
//		EnrolmentCode: readCodeFromFlash,
//	})
//	go d.Run(ctx)
//	err = d.Send("climate", device.NewReading(time.Now()).Float("room_temperature", 21.4))
//
// Send returns once the reading is safe on disk. Every reading carries the
// number of the device's start and its own number within that start; the pair
// is never used twice, so that the server stores a reading once however often
// it was sent.
//
// Readings belong to the owner of the unit, and the first ownership begins when
// the unit enrols. So the server does not keep what was read before: it
// acknowledges such a reading, drops it, counts it, and says so, with the
// reason "before-owner" in Config.Refused. Send keeps such readings in the
// queue all the same, because which day enrolment comes on is not known to the
// device: a program that measures before its first enrolment should not send
// until Status.NotAfter is set, or expect that nobody will see it. The same
// holds for what was read under an owner before, after the server was told to
// erase it. A reading without a time counts from its receipt.
//
// While the unit is in quarantine, because two machines seem to use its
// certificate, the server gives its readings no answer. They stay in the queue,
// Status.Held is set and Config.Refused is told once, with Held; when the maker
// has looked, they are sent. A queue that is full loses its oldest.
//
// What the device can be told to do is in Config.Commands, what can be set on it
// in Config.Settings. Both are held against the device's own bounds, and what
// was here before is not done again.
//
// A hub speaks for units that have no certificate, its children, with SendFor;
// which those are, people say at the server, and Propose asks them to.
//
// What it does not do: it opens no port, follows no redirect to another
// server, takes no new root from the network, and has no password beside the
// enrolment code, which is spent with the first certificate.
package device
