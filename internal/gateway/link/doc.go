// Package link joins gateways to the one server of an installation that has the
// keyring and the stores: the keeper. A gateway takes devices in, judges and
// seals what they send, and writes it to the journal; whatever else it needs it
// asks the keeper for, and has no key, no register and no store of its own
// (design, section 8).
//
// A gateway asks the keeper for news again and again. Each answer tells it all
// that happened until then: revocations, new declarations, keys that are taken
// back. It counts from the moment at which the question was sent, and after
// Sight without one the gateway serves nobody: its sessions end, nothing more
// is sealed and nothing goes into the journal. So whoever was revoked is gone
// everywhere after Sight at the latest, and the keeper knows from when on a
// gateway that it does not reach has let go of everything (a fence).
//
// Both ends prove that they have the same secret, by TLS 1.3 with a key derived
// from it.
package link
