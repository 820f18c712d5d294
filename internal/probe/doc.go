// Package probe asks an installation from outside, as a stranger without any
// credential would: what its doors speak, whom they let in, what they tell, and
// whether its ledger still is the one that it showed the last time (mission,
// kind "probe"). Every row says what was asked and what came back; what was not
// asked is said, too.
//
// It asks one installation, the one that it is told, a bounded number of times
// and within a bounded time. It knows no secrets, and what it shows as a
// credential it has just made up. It does not judge what only the inside can
// see: which declaration is in force, or what becomes of data.
package probe
