//go:build !pkcs11

package kms

import "github.com/hawser-iot/hawser/internal/core"

// OpenToken says that this program was built without PKCS#11, which needs cgo.
func OpenToken(o TokenOptions) (t Token, err error) {
	if _, err = o.check(); err == nil {
		err = core.E(core.Unready, "token-unsupported", "this program was built without PKCS#11", "build it with `make hawser-pkcs11` on a machine that has a C compiler")
	}
	return t, err
}
