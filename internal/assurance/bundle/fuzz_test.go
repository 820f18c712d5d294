package bundle

import (
	"bytes"
	"testing"
)

// FuzzVerify changes bytes of any file of a small bundle, and seals it anew
// with the right key half of the time. It must never panic, and nothing that
// differs may be proved.
func FuzzVerify(f *testing.F) {
	w, k := newWorld(3), newKey(f)
	w.live(2)
	earlier := w.signed(4)
	w.live(1)
	o := w.options()
	o.Earlier, o.From = [][]byte{earlier}, dawn
	honest := w.sealed(f, o, k)
	trust := w.trust(k, earlier)
	names := honest.names()
	for i := range names {
		f.Add(uint8(i), uint32(40*i), []byte("}"), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, file uint8, at uint32, put []byte, sealed bool) {
		changed := clone(honest)
		name := names[int(file)%len(names)]
		b := changed[name]
		i := int(at) % (len(b) + 1)
		end := min(len(b), i+len(put))
		changed[name] = append(append(append([]byte{}, b[:i]...), put...), b[end:]...)
		same := bytes.Equal(changed[name], b)
		if sealed && name != nameSig {
			changed.seal(k)
		}
		r, err := Verify(t.Context(), asFS(changed), trust)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case same && !r.OK():
			t.Fatalf("nothing changed, and it is %s: %v", r.Standing, r.Faults)
		case same || !r.OK():
		case name == nameSums && sealed: // sealing writes it anew
		case name == nameInput && sealed: // the maker vouches for it himself
		default:
			t.Fatalf("%s changed, and it is %s", name, r.Standing)
		}
	})
}

// FuzzFormats reads what strangers may hand over. Nothing may panic; what is
// taken is written again as it was.
func FuzzFormats(f *testing.F) {
	w, k := newWorld(2), newKey(f)
	w.live(1)
	honest := w.sealed(f, w.options(), k)
	for _, b := range honest {
		f.Add(b)
	}
	f.Add([]byte(k.Public().AllowedSigner()))
	f.Add(w.entries[len(w.entries)-2].Leaf)
	var sent bytes.Buffer
	if d, err := Collect(f.Context(), w.options()); err != nil || d.Encode(&sent) != nil {
		f.Fatal(err)
	}
	f.Add(sent.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if st, err := decode[Statement](b); err == nil {
			if again, err := encode(st); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("a statement is written otherwise: %v", err)
			}
		}
		_, _ = decode[logProofs](b)
		_, _ = decode[[]sample](b)
		if list, err := parseSigners(b); err == nil {
			_, _ = allowed(list, k.Public(), dawn)
		}
		_, _ = parseRecord(b)
		if p, err := openSignature(b, b); err == nil {
			t.Fatalf("a text that signs itself by %s", p.Fingerprint())
		}
		_, _ = logKey(string(b), "x")
		if d, err := ReadDraft(bytes.NewReader(b)); err == nil {
			var bad faults
			open(d.f, &bad)
		}
		f := clone(honest)
		f[nameSums] = b
		if s := inert(string(b)); len(s) > 130 {
			t.Fatalf("%q is long", s)
		}
		_ = f.agree()
	})
}
