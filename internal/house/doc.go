// Package house holds the rules of the house as tests: which package may
// import which, that every package says what it is for, that nothing hides in
// an init function, and that the device agent stays small. Imports are parsed
// in the test's own process, because the answer of a `go list` subprocess is
// served stale from the test cache.
package house
