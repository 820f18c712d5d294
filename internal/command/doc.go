// Package command gives devices commands: what a declaration lets somebody tell
// a device, within declared bounds, once, until a time, for a reason (CC 3.7).
// A command waits in the control database until its device takes it, however
// often either side restarts; its values lie sealed under the owner's key and
// go with it. Every command and its end stand in the ledger.
//
// It keeps how a device is to be set in the same way: whole, within declared
// bounds, under a version that only grows, with a way back for as long as what
// was before may be kept. What is declared risky waits for a second person.
//
// The package holds the rules. Storage is behind Tx; the gateway delivers what
// Next gives and hands in what devices answer.
package command
