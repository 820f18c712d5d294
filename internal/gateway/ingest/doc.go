// Package ingest is the door for devices that keep no connection: batches of
// readings of one stream by POST /device/v1/telemetry/{stream} over mutual TLS.
// It takes a body apart, hands each reading to the same intake as MQTT, and
// answers when all that was decided is on disk. Problems are RFC 9457, repeated
// requests draft-ietf-httpapi-idempotency-key-header. Who may send, how fast,
// and what a reading may hold is decided elsewhere.
package ingest
