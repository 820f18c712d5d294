package bundle

// PublicKeys are the evidence keys that a file of allowed signers names.
func PublicKeys(allowedSigners []byte) ([]PublicKey, error) {
	all, err := parseSigners(allowedSigners)
	if err != nil {
		return nil, err
	}
	var out []PublicKey
	for _, s := range all {
		out = append(out, s.key)
	}
	return out, nil
}
