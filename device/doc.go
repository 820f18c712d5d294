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
// What it does not do: it opens no port, follows no redirect to another
// server, takes no new root from the network, and has no password beside the
// enrolment code, which is spent with the first certificate.
package device
