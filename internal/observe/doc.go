// Package observe learns what a fleet sends as it is today, so that a maker can
// declare it: topics, fields, types, ranges and rates. It holds shapes, never
// values: no text, no number that was measured, no name of a device leaves it,
// and what it holds while it looks is in memory only.
package observe
