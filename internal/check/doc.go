// Package check holds the words of proof: a Check, the Look that one run of it
// takes, the Observation that comes out, the Violation that a check must catch,
// and the Proof that it was seen to catch it.
//
// A check never says that something is true; it says how many things it looked
// at, where it looked, and which of them were not as they should be. What
// follows for a row of the mission is worked out from observations alone, by
// package assurance. The package runs checks (Take) and knows none.
package check
