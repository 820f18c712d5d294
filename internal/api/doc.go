// Package api is the JSON door of the running server. At present it listens
// only on a local socket, where the operating system says who is asking; it
// translates requests into calls and errors into problems (RFC 9457) and holds
// no rule of its own. Every route names its permission; one without does not
// start.
package api
