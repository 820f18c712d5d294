// Package wire is what a device and the server say to each other above MQTT
// and HTTP: the topics and their two forms, the JSON of the messages, the
// paths of EST, units, limits, and a dated protocol version. Both sides use
// it, so that neither can drift. It does no I/O and imports nothing of ours.
package wire
