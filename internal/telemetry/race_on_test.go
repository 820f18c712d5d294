//go:build race

package telemetry

// raceEnabled shortens what takes long under the race detector.
const raceEnabled = true
