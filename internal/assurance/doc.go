// Package assurance says which of the guide's recommendations are followed
// today. It holds the catalogue (63 controls, 132 rows), what the declarations
// in force make of it, and what was observed; from these, and from nothing
// else, it works out verdicts (design, section 9). It also keeps waivers, and
// says how the claims of the declarations stand.
//
// It runs no check and judges no product's conformity with any standard: where
// other standards are named, it is by their ids, for orientation.
package assurance
