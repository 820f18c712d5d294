// Package readers serves the maker's own services: the apps and clouds that a
// declaration names among `services` and `readers`. It registers them, knows
// their certificates, gives each the declared fields of a product as a durable
// stream at least once, under pseudonyms of its own, and tells it what must go.
//
// It speaks no protocol: the door is in gateway/services. It stores no value:
// a stream's cursor is a place in the epoch files.
package readers
