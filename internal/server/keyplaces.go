package server

import (
	"slices"

	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/seal"
)

// What a token may hold, in the key `token_holds`.
const (
	heldRoots     = "roots"
	heldAuthority = "authority"
)

// keyPlaces are where the roots are and, unless it is the authority's folder,
// where the keys of its intermediates are.
type keyPlaces struct {
	roots     seal.RootKeys
	authority identity.KeyStore // nil: the folder
	token     kms.Token         // nil: none
}

func openKeyPlaces(c *Config) (*keyPlaces, error) {
	p := &keyPlaces{}
	var err error
	if c.TokenModule != "" {
		//lint:ignore SA4023 built with -tags pkcs11 there may be one
		if p.token, err = kms.OpenToken(kms.TokenOptions{Module: c.TokenModule, Label: c.TokenLabel, PIN: c.TokenPIN, Prefix: c.TokenKeys}); err != nil {
			return nil, err
		}
		if slices.Contains(c.TokenHolds, heldAuthority) {
			p.authority = p.token
		}
	}
	switch {
	case c.rootsInToken():
		p.roots = p.token
	case c.RootsOpenBao != "":
		p.roots, err = kms.OpenOpenBao(kms.OpenBaoOptions{Address: c.RootsOpenBao, Mount: c.RootsOpenBaoMount, Prefix: c.RootsOpenBaoKeys, Token: c.RootsOpenBaoToken, CA: c.RootsOpenBaoCA})
	default:
		p.roots, err = kms.OpenFile(kms.FileOptions{Dir: c.Roots, ApartFrom: []string{c.Data}})
	}
	if err != nil {
		_ = p.close() // the reason above is the one to tell
		return nil, err
	}
	return p, nil
}

func (p *keyPlaces) close() error {
	if p == nil || p.token == nil {
		return nil
	}
	return p.token.Close()
}

func (c *Config) rootsInToken() bool { return slices.Contains(c.TokenHolds, heldRoots) }

// AuthorityKeys is where the keys of the authority's intermediates are, nil for
// its folder, and what lets go of it.
func AuthorityKeys(c *Config) (identity.KeyStore, func() error, error) {
	if !slices.Contains(c.TokenHolds, heldAuthority) {
		return nil, func() error { return nil }, nil
	}
	p, err := openKeyPlaces(c)
	if err != nil {
		return nil, nil, err
	}
	return p.authority, p.close, nil
}

// checkToken holds that a token is named whole, and used for something.
func (c *Config) checkToken() (key, what, hint string) {
	switch {
	case c.TokenModule == "" && len(c.TokenHolds) > 0:
		return "token_holds", "without a token", "name its module with the key `token_module`"
	case c.TokenModule == "":
		return "", "", ""
	case len(c.TokenHolds) == 0:
		return "token_holds", "is empty", "say what the token holds: [roots, authority], or one of them"
	case c.rootsInToken() && c.RootsOpenBao != "":
		return "token_holds", "the roots are in OpenBao already", "choose one of the two"
	case c.TokenLabel == "":
		return "token_label", "is empty", "name the token as its maker's tool shows it"
	case c.TokenPIN == "":
		return "token_pin", "is empty", "name a file of mode 0600 with the PIN"
	case within(c.Data, c.TokenPIN):
		return "token_pin", c.TokenPIN + " lies inside data", "keep it outside data: a backup of data must not open anything"
	}
	for i, h := range c.TokenHolds {
		if h != heldRoots && h != heldAuthority || slices.Contains(c.TokenHolds[:i], h) {
			return "token_holds", "has " + h, "choose of roots and authority, each once"
		}
	}
	return "", "", ""
}
