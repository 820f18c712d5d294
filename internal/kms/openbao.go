package kms

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// OpenBaoOptions says where an OpenBao keeps roots, and how it knows us.
type OpenBaoOptions struct {
	Address string // https://HOST:PORT
	Mount   string // of the transit engine; "": transit
	Prefix  string // of the names of our keys: PREFIX-GENERATION; one for each installation
	Token   string // file with the token, mode 0600; read for every request, so that an agent may renew it
	CA      string // PEM file of who signed its certificate; "": the system's
}

// OpenBao keeps each root as one key of a transit engine, which never leaves
// it. Wrapping and unwrapping happen there; destroying deletes the key.
//
// It follows the documentation of OpenBao's API (openbao.org, "Transit secrets
// engine (API)", 2.5) and was held against a stand-in that keeps what is
// documented there, never against a real one: it is unproven.
//
// Encrypting under a name that does not exist makes a key where the policy
// allows to create; so every wrap looks first, and the policy should allow
// `update` and not `create` on encrypt/*.
type OpenBao struct {
	o    OpenBaoOptions
	base *url.URL
	http *http.Client
}

var _ seal.RootKeys = (*OpenBao)(nil)

const (
	baoTimeout   = 15 * time.Second
	maxBaoAnswer = 1 << 20
	maxBaoToken  = 4 << 10
)

var baoNames = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// OpenOpenBao checks the options; nothing is asked of the server yet.
func OpenOpenBao(o OpenBaoOptions) (*OpenBao, error) {
	bad := func(message, hint string) error { return core.E(core.Invalid, "openbao", message, hint) }
	if o.Mount == "" {
		o.Mount = "transit"
	}
	u, err := url.Parse(o.Address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return nil, bad(fmt.Sprintf("%.80q is no address of an OpenBao", o.Address), "write https://HOST:8200; there is no cleartext, and who we are stands in a file")
	}
	if !baoNames.MatchString(o.Mount) || !baoNames.MatchString(o.Prefix) {
		return nil, bad("the names of the engine or of our keys do not fit", "take small letters, digits, dashes and underscores, at most 63")
	}
	if o.Token == "" {
		return nil, bad("there is no file with the token", "give a file of mode 0600 that holds it, and nothing else")
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("read the certificates of OpenBao's authority: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, bad(o.CA+" holds no certificate", "give a PEM file")
		}
	}
	return &OpenBao{o: o, base: &url.URL{Scheme: "https", Host: u.Host}, http: &http.Client{
		Timeout: baoTimeout, Transport: &http.Transport{TLSClientConfig: conf, Proxy: nil, MaxIdleConns: 2, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token goes nowhere else
	}}, nil
}

func (b *OpenBao) key(gen uint64) string { return b.o.Prefix + "-" + strconv.FormatUint(gen, 10) }

// token reads the token's file.
func (b *OpenBao) token() (string, error) {
	if err := checkPrivate(b.o.Token); err != nil {
		return "", err
	}
	f, err := os.Open(b.o.Token)
	if err != nil {
		return "", fmt.Errorf("read OpenBao's token: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	t, err := io.ReadAll(io.LimitReader(f, maxBaoToken+1))
	if err != nil {
		return "", fmt.Errorf("read OpenBao's token: %w", err)
	}
	text := strings.TrimSpace(string(t))
	if text == "" || len(t) > maxBaoToken || strings.ContainsAny(text, " \r\n\t") {
		return "", core.E(core.Unready, "openbao-token", "the file with OpenBao's token holds no token", "one line, nothing else")
	}
	return text, nil
}

// baoError is an answer that is no success.
type baoError struct {
	status int
	says   []string
}

func (e *baoError) Error() string {
	return fmt.Sprintf("OpenBao answers %d: %s", e.status, strings.Join(e.says, "; "))
}

func hasStatus(err error, status int) bool {
	e, ok := errors.AsType[*baoError](err)
	return ok && e.status == status
}

// ask makes one request. in and out are JSON, nil for none. Errors are
// *baoError, or say why nothing came back.
func (b *OpenBao) ask(ctx context.Context, method, path string, in, out any) error {
	token, err := b.token()
	if err != nil {
		return err
	}
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		defer clear(text)
		body = bytes.NewReader(text)
	}
	at, query, _ := strings.Cut(path, "?")
	u := b.base.JoinPath("v1", b.o.Mount, at)
	u.RawQuery = query
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Token", token)
	req.Header.Set("X-Vault-Request", "true")
	resp, err := b.http.Do(req)
	if err != nil {
		return because(core.Unavail, "openbao-gone", "the roots in OpenBao cannot be reached", "see that it runs and is unsealed, and that its certificate is one we trust", err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBaoAnswer+1))
	defer clear(text)
	if err == nil && len(text) > maxBaoAnswer {
		err = errors.New("the answer is larger than 1 MB")
	}
	if err != nil {
		return because(core.Unavail, "openbao-gone", "OpenBao's answer did not come whole", "try again; look at the network between", err)
	}
	if resp.StatusCode/100 != 2 {
		return b.refusal(resp.StatusCode, text)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, &struct{ Data any }{out}); err != nil {
		return because(core.Unavail, "openbao-answer", "OpenBao's answer is not understood", "see that the address is that of an OpenBao, and not of something before it", err)
	}
	return nil
}

// refusal is what a failing answer means for who operates us.
func (b *OpenBao) refusal(status int, text []byte) error {
	var said struct{ Errors []string }
	_ = json.Unmarshal(text, &said) // what it says is a help, no more
	for i, s := range said.Errors {
		said.Errors[i] = s[:min(len(s), 200)]
	}
	e := &baoError{status, said.Errors}
	switch {
	case status == http.StatusForbidden:
		return because(core.Unready, "openbao-denied", "OpenBao does not allow what the roots need", "see docs/runbook.md for the policy, and whether the token has run out", e)
	case status >= 500:
		return because(core.Unavail, "openbao-sealed", "OpenBao is sealed, in standby or in trouble", "unseal it, or wait; nothing was changed", e)
	}
	return e
}

// transitKey is what is known of a key.
type transitKey struct {
	Type        string         `json:"type"`
	Latest      int            `json:"latest_version"`
	Exportable  bool           `json:"exportable"`
	Backup      bool           `json:"allow_plaintext_backup"`
	Derived     bool           `json:"derived"`
	KeyVersions map[string]any `json:"keys"`
}

const transitType = "aes256-gcm96"

// find looks a root up; core.Unready when it is missing.
func (b *OpenBao) find(ctx context.Context, gen uint64) error {
	var k transitKey
	err := b.ask(ctx, http.MethodGet, "keys/"+b.key(gen), nil, &k)
	if hasStatus(err, http.StatusNotFound) {
		return core.E(core.Unready, "root-missing", fmt.Sprintf("root generation %d is missing", gen), fmt.Sprintf("bring root generation %d, or a newer keyring", gen))
	}
	if err != nil {
		return err
	}
	if k.Type != transitType || k.Exportable || k.Backup || k.Derived || k.Latest != 1 {
		return core.E(core.Unready, "root-damaged", fmt.Sprintf("root generation %d is not as it was made", gen),
			"it must be one version of "+transitType+", not exportable and without backups in plaintext: find out who changed it")
	}
	return nil
}

// Create makes the root of generation gen.
func (b *OpenBao) Create(ctx context.Context, gen uint64) error {
	if gen == 0 || gen > math.MaxInt64 {
		return core.E(core.Invalid, "bad-generation", fmt.Sprintf("there is no generation %d", gen), "")
	}
	// Making a key that exists is no error there, and changes nothing.
	switch err := b.find(ctx, gen); {
	case err == nil, core.ReasonOf(err) == "root-damaged":
		return core.E(core.Conflict, "root-exists", fmt.Sprintf("root generation %d exists already", gen), "")
	case core.ReasonOf(err) != "root-missing":
		return err
	}
	if err := b.ask(ctx, http.MethodPost, "keys/"+b.key(gen), map[string]any{"type": transitType, "exportable": false, "allow_plaintext_backup": false}, nil); err != nil {
		return fmt.Errorf("make root generation %d: %w", gen, err)
	}
	return b.find(ctx, gen)
}

// Wrap encrypts key under the root of generation gen: OpenBao's ciphertext.
func (b *OpenBao) Wrap(ctx context.Context, gen uint64, key []byte) ([]byte, error) {
	if err := b.find(ctx, gen); err != nil {
		return nil, err
	}
	var out struct{ Ciphertext string }
	in := map[string]string{"plaintext": base64.StdEncoding.EncodeToString(key), "associated_data": base64.StdEncoding.EncodeToString(wrapAAD(gen))}
	if err := b.ask(ctx, http.MethodPost, "encrypt/"+b.key(gen), in, &out); err != nil {
		return nil, fmt.Errorf("wrap under root generation %d: %w", gen, err)
	}
	if !strings.HasPrefix(out.Ciphertext, "vault:v1:") || len(out.Ciphertext) > 64<<10 {
		return nil, core.E(core.Unavail, "openbao-answer", "OpenBao's ciphertext is not of the key's first version", "find out who rotated the key: roots are never rotated there, each generation is a key of its own")
	}
	// What cannot be opened again is not handed out.
	again, err := b.Unwrap(ctx, gen, []byte(out.Ciphertext))
	defer clear(again)
	if err != nil || !bytes.Equal(again, key) {
		return nil, because(core.Unavail, "openbao-answer", "what OpenBao wrapped does not open again", "look at it before anything is rotated", err)
	}
	return []byte(out.Ciphertext), nil
}

// Unwrap is the inverse of Wrap.
func (b *OpenBao) Unwrap(ctx context.Context, gen uint64, blob []byte) ([]byte, error) {
	if err := b.find(ctx, gen); err != nil {
		return nil, err
	}
	if len(blob) < len("vault:v1:")+nonceBytes+tagBytes {
		return nil, core.E(core.Invalid, "not-authentic", "wrapped key is cut short", "")
	}
	var out struct{ Plaintext string }
	in := map[string]string{"ciphertext": string(blob), "associated_data": base64.StdEncoding.EncodeToString(wrapAAD(gen))}
	err := b.ask(ctx, http.MethodPost, "decrypt/"+b.key(gen), in, &out)
	if hasStatus(err, http.StatusBadRequest) {
		return nil, because(core.Unready, "root-wrong", fmt.Sprintf("root generation %d does not open this keyring: it belongs to another one", gen), "bring the root and the keyring of one installation", err)
	}
	if err != nil {
		return nil, fmt.Errorf("unwrap by root generation %d: %w", gen, err)
	}
	key, err := base64.StdEncoding.DecodeString(out.Plaintext)
	if err != nil {
		return nil, because(core.Unavail, "openbao-answer", "OpenBao's answer is not understood", "see that the address is that of an OpenBao", err)
	}
	return key, nil
}

// Destroy deletes the key of generation gen, and looks whether it is gone. Its
// storage and snapshots may keep what was deleted: hence "best-effort".
func (b *OpenBao) Destroy(ctx context.Context, gen uint64) (seal.Destruction, error) {
	d := seal.Destruction{
		Gen: gen, Destroys: seal.DestroysBestEffort,
		Detail: "key deleted in OpenBao, which then knew no such key; its storage and snapshots may keep it; unproven against a real OpenBao",
	}
	err := b.ask(ctx, http.MethodPost, "keys/"+b.key(gen)+"/config", map[string]any{"deletion_allowed": true}, nil)
	switch {
	case hasStatus(err, http.StatusNotFound), hasStatus(err, http.StatusBadRequest): // it is gone, or the look below says otherwise
	case err != nil:
		return seal.Destruction{}, fmt.Errorf("destroy root generation %d: %w", gen, err)
	default:
		if err := b.ask(ctx, http.MethodDelete, "keys/"+b.key(gen), nil, nil); err != nil {
			return seal.Destruction{}, fmt.Errorf("destroy root generation %d: %w", gen, err)
		}
	}
	switch err := b.find(ctx, gen); {
	case core.ReasonOf(err) == "root-missing":
		return d, nil
	case err != nil && core.ReasonOf(err) != "root-damaged":
		return seal.Destruction{}, fmt.Errorf("destroy root generation %d: %w", gen, err)
	}
	return seal.Destruction{}, core.E(core.Unavail, "root-not-destroyed", fmt.Sprintf("root generation %d was deleted, and is still there", gen), "look at OpenBao: the policy may forbid to delete keys")
}

// Generations lists the roots that exist, ascending.
func (b *OpenBao) Generations(ctx context.Context) ([]uint64, error) {
	var out struct{ Keys []string }
	err := b.ask(ctx, http.MethodGet, "keys?list=true", nil, &out)
	if hasStatus(err, http.StatusNotFound) {
		return nil, nil // it has no key at all
	}
	if err != nil {
		return nil, fmt.Errorf("list roots: %w", err)
	}
	var gens []uint64
	for _, name := range out.Keys {
		rest, ok := strings.CutPrefix(name, b.o.Prefix+"-")
		g, err := strconv.ParseUint(rest, 10, 63)
		if !ok || err != nil || g == 0 || b.key(g) != name {
			continue // not ours
		}
		gens = append(gens, g)
	}
	slices.Sort(gens)
	return gens, nil
}

// because is core.E with a cause.
func because(kind core.Kind, reason, message, hint string, err error) error {
	return &core.Error{Kind: kind, Reason: reason, Message: message, Hint: hint, Err: err}
}
