// Package baotest is a stand-in for OpenBao's transit engine, for tests. It
// keeps what the documentation of its API says, over real TLS.
package baotest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// StandIn keeps what OpenBao's documentation says of the transit engine: keys
// are made once, encryption is bound to key and associated data, a key is
// deleted only when that was allowed, and every request needs the token. It is
// no OpenBao, and what is tested with it is not proven of one.
type StandIn struct {
	*httptest.Server
	t testing.TB

	mu sync.Mutex // guards what follows; see Set
	// Token is the one that it takes.
	Token  string
	Keys   map[string]*Key
	Status int    // != 0: every answer is this
	Raw    string // != "": every answer is this text
	Asked  []string
}

// Key is one key of the engine.
type Key struct {
	Secret  []byte
	Version int

	deletable bool
	kind      string
}

// New runs one until the test ends.
func New(t testing.TB) *StandIn {
	t.Helper()
	s := &StandIn{t: t, Token: "s.a-token-of-a-test", Keys: map[string]*Key{}}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

// Files writes its token and its certificate into a folder of the test.
func (s *StandIn) Files(t testing.TB) (token, ca string) {
	t.Helper()
	dir := t.TempDir()
	token, ca = filepath.Join(dir, "token"), filepath.Join(dir, "ca.pem")
	for name, b := range map[string][]byte{token: []byte(s.Token + "\n"), ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return token, ca
}

// ServeHTTP is the API.
func (s *StandIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Asked = append(s.Asked, r.Method+" "+r.URL.Path)
	fail := func(status int, what string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{what}}) // the client may be gone
	}
	answer := func(data any) { _ = json.NewEncoder(w).Encode(map[string]any{"request_id": "x", "data": data}) } // the same
	switch {
	case s.Status != 0:
		fail(s.Status, "as the test wants")
		return
	case s.Raw != "":
		_, _ = w.Write([]byte(s.Raw)) // the same
		return
	case r.Header.Get("X-Vault-Token") != s.Token:
		fail(http.StatusForbidden, "permission denied")
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/transit/")
	if !ok {
		fail(http.StatusNotFound, "no handler for route")
		return
	}
	var in struct {
		Type            string
		Plaintext       string
		Ciphertext      string
		AssociatedData  string `json:"associated_data"`
		DeletionAllowed bool   `json:"deletion_allowed"`
	}
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			fail(http.StatusBadRequest, err.Error())
			return
		}
	}
	verb, name, _ := strings.Cut(path, "/")
	name, config := strings.CutSuffix(name, "/config")
	k := s.Keys[name]
	switch {
	case verb == "keys" && name == "" && r.URL.Query().Get("list") == "true":
		if len(s.Keys) == 0 {
			fail(http.StatusNotFound, "")
			return
		}
		var names []string
		for n := range s.Keys {
			names = append(names, n)
		}
		answer(map[string]any{"keys": names})
	case verb == "keys" && r.Method == http.MethodPost && !config:
		if k == nil { // else nothing changes
			k = &Key{Secret: make([]byte, 32), Version: 1, kind: in.Type}
			_, _ = rand.Read(k.Secret) // never fails
			s.Keys[name] = k
		}
		w.WriteHeader(http.StatusNoContent)
	case k == nil && verb == "encrypt":
		// As with a policy that allows to create: the key is made.
		k = &Key{Secret: make([]byte, 32), Version: 1, kind: "aes256-gcm96"}
		_, _ = rand.Read(k.Secret) // never fails
		s.Keys[name] = k
		s.t.Errorf("%s was made by encrypting", name)
		fallthrough
	case verb == "encrypt":
		plain, err := base64.StdEncoding.DecodeString(in.Plaintext)
		aad, err2 := base64.StdEncoding.DecodeString(in.AssociatedData)
		if err != nil || err2 != nil {
			fail(http.StatusBadRequest, "illegal base64")
			return
		}
		nonce := make([]byte, 12)
		_, _ = rand.Read(nonce) // never fails
		sealed := s.aead(k).Seal(nonce, nonce, plain, aad)
		answer(map[string]any{"ciphertext": "vault:v" + strconv.Itoa(k.Version) + ":" + base64.StdEncoding.EncodeToString(sealed), "key_version": k.Version})
	case k == nil && config, k == nil && verb == "decrypt":
		fail(http.StatusBadRequest, "no existing key named "+name+" could be found")
	case k == nil:
		fail(http.StatusNotFound, "")
	case verb == "decrypt":
		text, ok := strings.CutPrefix(in.Ciphertext, "vault:v1:")
		b, err := base64.StdEncoding.DecodeString(text)
		aad, err2 := base64.StdEncoding.DecodeString(in.AssociatedData)
		if !ok || err != nil || err2 != nil || len(b) < 28 {
			fail(http.StatusBadRequest, "invalid ciphertext")
			return
		}
		plain, err := s.aead(k).Open(nil, b[:12], b[12:], aad)
		if err != nil {
			fail(http.StatusBadRequest, "cipher: message authentication failed")
			return
		}
		answer(map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plain)})
	case config:
		k.deletable = in.DeletionAllowed
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet:
		answer(map[string]any{"type": k.kind, "latest_version": k.Version, "deletion_allowed": k.deletable, "exportable": false, "keys": map[string]int{"1": 1}})
	case r.Method == http.MethodDelete && !k.deletable:
		fail(http.StatusBadRequest, "error deleting policy: deletion is not allowed for this key")
	case r.Method == http.MethodDelete:
		delete(s.Keys, name)
		w.WriteHeader(http.StatusNoContent)
	default:
		fail(http.StatusMethodNotAllowed, "unsupported operation")
	}
}

func (s *StandIn) aead(k *Key) cipher.AEAD {
	block, err := aes.NewCipher(k.Secret)
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// Set changes it between two requests.
func (s *StandIn) Set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}
