// Package simulate is a fleet for rehearsals: as many devices as wanted, each
// with the real device library, its own key, certificate and queue on disk.
// Only what a device has that a computer has not is made up: its sensors, its
// clock, its radio and its sleep. What happens to which device follows from a
// seed; when exactly follows from the network.
package simulate
