package seal

import "github.com/hawser-iot/hawser/internal/core"

// WithStep lets a test stop the world around each effect on disk.
func (o Options) WithStep(step func(effect string, do func() error) error) Options {
	o.step = step
	return o
}

// Secrets gives the residue test what it searches for.
func (k *Keyring) Secrets(s core.Subject, e core.Epoch) (subject, epoch []byte) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	a, b := k.subjects[s].secret, k.epochs[e].secret
	return a[:], b[:]
}

// Attack tries to open sealed, a reading of aad, with one keyring copy and one
// candidate for its root's unwrapping: every subject's and epoch's secret in
// every pairing, as somebody who has this source code would.
func Attack(copyBytes []byte, unwrap func(gen uint64, blob []byte) [][]byte, sealed, aad []byte) bool {
	h, err := parseHeader(copyBytes)
	if err != nil {
		return false
	}
	for _, key := range unwrap(h.gen, h.wrapped) {
		im, err := readImage(copyBytes, h, key)
		if err != nil {
			continue
		}
		for _, s := range im.contents.subjects {
			for _, e := range im.contents.epochs {
				aead, err := derive(append(append([]byte(nil), s[:]...), e[:]...), infoReading)
				if err != nil {
					continue
				}
				if _, err := aead.Open(nil, nil, sealed, aad); err == nil {
					return true
				}
			}
		}
	}
	return false
}
