// Package storetest holds the tests that every storage engine must pass: one
// function per capability, which takes a way to open an empty store. The SQLite
// engine runs them in the tests of package store; another engine joins by
// calling the same functions.
package storetest
