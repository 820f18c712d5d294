// Package console is the pages on which the maker's staff see what is true
// today, why, and what to do: controls and their checks, products, devices,
// refusals, people, the ledger, evidence and waivers. Pages are drawn by the
// server and work without script; the one script there is repeats a part of a
// page. The package translates requests into calls and answers into pages, and
// holds no rule of its own.
//
// Every route names its permission; a console with one that does not will not
// start. What a device or a person has named is shown as text, whatever it
// says: html/template escapes it where it stands, and control characters and
// those that turn the direction of text are replaced in the whole page (CC 2.2).
package console
