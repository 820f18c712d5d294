package assurance

import (
	"regexp"
	"testing"
)

// TestUUIDVectors holds the vector of RFC 9562 §A.4, and others that Python's
// uuid module gives.
func TestUUIDVectors(t *testing.T) {
	dns := urls()
	dns[3] = 0x10 // RFC 9562 §6.6
	for _, c := range []struct {
		namespace  uuid
		name, want string
	}{
		{dns, "www.example.com", "2ed6657d-e927-568b-95e1-2665a8aea6a2"}, // RFC 9562 §A.4
		{dns, "python.org", "886313e1-3b8a-5372-9b90-0c9aee199e5d"},
		{urls(), "", "1b4db7eb-4057-5ddf-91e0-36dec72071f5"},
		{urls(), "https://github.com/hawser-iot/hawser", "c3e571e7-c2a3-5eca-9ce5-6be8395ea7b7"},
	} {
		if got := uuid5(c.namespace, c.name).String(); got != c.want {
			t.Errorf("%q: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestUUIDsStay: what was published once keeps its UUID, and no two controls
// or rows share one.
func TestUUIDsStay(t *testing.T) {
	if got, want := UUIDOf("control/DS-05"), "75b24523-7025-500a-8d98-04ee02d902bf"; got != want {
		t.Errorf("the UUID of DS-05 is %s, was %s", got, want)
	}
	shape := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]string{}
	see := func(name string) {
		u := UUIDOf(name)
		if !shape.MatchString(u) || seen[u] != "" {
			t.Errorf("%s has UUID %s, as has %q", name, u, seen[u])
		}
		seen[u] = name
	}
	for _, c := range Controls() {
		see("control/" + string(c.ID))
	}
	for _, r := range Rows() {
		see("row/" + string(r.ID))
	}
}
