package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
)

// tokenField is the form field that holds a token.
const tokenField = "token"

// maxFormBytes bounds what a form sends.
const maxFormBytes = 64 << 10

// tokens ties every form to the session that it was drawn for (CC 2.3). The
// key lives as long as the console.
type tokens struct{ key [32]byte }

// of is the token of a visitor's forms.
func (t *tokens) of(v Visitor) string {
	m := hmac.New(sha256.New, t.key[:])
	m.Write([]byte(v.Actor.String() + "\x00" + v.Session))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func (t *tokens) ok(r *http.Request, v Visitor) bool {
	return hmac.Equal([]byte(r.PostFormValue(tokenField)), []byte(t.of(v)))
}
