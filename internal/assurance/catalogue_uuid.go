package assurance

import (
	"crypto/sha1" //nolint:gosec // a name, not a seal: RFC 9562 §5.5 asks for SHA-1
	"fmt"
)

// UUIDOf is the UUID of a thing of ours by its name: "control/DS-05". The same
// name has the same UUID for ever, on every machine (RFC 9562 §5.5, version 5).
// Its namespace is the UUID of the URL of this program's source.
func UUIDOf(name string) string {
	return uuid5(uuid5(urls(), "https://github.com/hawser-iot/hawser"), name).String()
}

// uuid is a UUID as its sixteen bytes.
type uuid [16]byte

// urls is the namespace of names that are URLs (RFC 9562 §6.6).
func urls() uuid {
	return uuid{0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}
}

// uuid5 is the UUID of version 5 of a name in a namespace.
func uuid5(namespace uuid, name string) (u uuid) {
	sum := sha1.Sum(append(namespace[:], name...)) //nolint:gosec // see the import
	copy(u[:], sum[:])
	u[6] = u[6]&0x0f | 0x50 // version 5
	u[8] = u[8]&0x3f | 0x80 // variant of RFC 9562 §4.1
	return u
}

// String is the text form of RFC 9562 §4.
func (u uuid) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
