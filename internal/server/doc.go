// Package server is the one place of wiring: it reads the configuration,
// opens store, keyring, journal and ledger, hands each capability what it
// needs, starts the doors and the jobs, and stops all of it again. It holds no
// rule about devices, readings or people; those live in the capabilities.
package server
