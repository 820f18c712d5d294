// Package declaration reads a product's declaration: the one YAML file that
// says what the product collects, who may read it, how long it is kept, what it
// talks to, how it is updated and until when. It finds all faults of a file at
// once, each with its place, its rule and its fix; compiles a sound declaration
// to an immutable Policy with a canonical form and hash; says what a new version
// widens or narrows; and publishes versions under rules that keep promises.
//
// Three things come from two tables of data (the keys in keys*.go, the rules in
// rules.go) so that they cannot disagree: the check, the JSON Schema 2020-12
// that editors complete by, and docs/declaration.md.
//
// It judges no message, opens no file and knows no clock of its own.
// Units are those of SenML (RFC 8428, RFC 8798) and UCUM; canonical JSON is
// that of RFC 8785.
package declaration
