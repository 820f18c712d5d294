package assurance

import (
	"fmt"
	"strings"
)

// IDs are all ids of a standard that may be cited, in its order: of EN and
// ISVS every one there is, of the others what is about products and their
// makers. An id is a fact; no text of a standard is here.
func (s Standard) IDs() []string {
	switch s {
	case NIST:
		return []string{
			"Asset Identification", "Product Configuration", "Data Protection", "Interface Access Control", "Software Update", "Cybersecurity State Awareness",
			"Documentation", "Information and Query Reception", "Information Dissemination", "Education and Awareness",
		}
	case NIST213A:
		return spread("/", " ",
			"DI", "IMS AID PID", "DC", "PRV AUT INT DSP CTL", "DP", "CRY KEY STO STX", "LA", "AUN ACF USE AUZ AIM ROL LDU XCN IFC", "SU", "UPD APP",
			"CS", "AEI EIM EVR LCT RDL LSR SRT AUP AWR", "DS", "EXE COM RSC DIN ONB OPS",
			"DO", "SMP CAP DSC MNT DAU", "IQ", "BUG QRY", "ID", "CRI VNT", "EA", "CSC EOL RSP EXP BAK VMG")
	case EN:
		return spread("-", " ",
			"5.0", "1", "5.1", "1 2 2A 3 4 5", "5.2", "1 2 3", "5.3", "1 2 3 4A 4B 5 6A 6B 7 8 9 10 11 12 13 14 15A 15B 16", "5.4", "1 2 3 4",
			"5.5", "1 2 3 4 5 6 7 8", "5.6", "1 2 3 4A 4B 5 6 7 8 9", "5.7", "1 2", "5.8", "1 2 3", "5.9", "1 2 3", "5.10", "1", "5.11", "1 2 3 4",
			"5.12", "1 2 3", "5.13", "1A 1B", "6", "1 2 3A 3B 4 5 6 7 8")
	case ISVS:
		var out []string
		for _, c := range []struct {
			chapter string
			last    int
		}{
			{"1.1", 6},
			{"1.2", 9},
			{"1.3", 15},
			{"1.4", 7},
			{"1.5", 3},
			{"1.6", 4},
			{"2.1", 13},
			{"2.2", 4},
			{"2.3", 4},
			{"2.4", 8},
			{"3.1", 9},
			{"3.2", 11},
			{"3.3", 5},
			{"3.4", 13},
			{"3.5", 4},
			{"3.6", 2},
			{"4.1", 8},
			{"4.2", 3},
			{"4.3", 10},
			{"4.4", 5},
			{"4.5", 8},
			{"4.6", 5},
			{"5.1", 13},
		} {
			out = append(out, numbered(c.chapter+".%d", c.last)...)
		}
		return out
	case CRA:
		out := []string{"Annex I Part I (1)"}
		for letter := 'a'; letter <= 'm'; letter++ {
			out = append(out, fmt.Sprintf("Annex I Part I (2)(%c)", letter))
		}
		out = append(append(out, numbered("Annex I Part II (%d)", 8)...), "Annex II")
		out = append(append(out, numbered("Annex II (%d)", 9)...), "Article 13")
		out = append(append(out, numbered("Article 13(%d)", 25)...), "Article 14")
		return append(append(out, numbered("Article 14(%d)", 10)...), "Article 28")
	case PSTI:
		return append(numbered("Schedule 1 paragraph %d", 3), "Act section 9", "Act section 10", "Act section 11", "Act section 12")
	}
	return nil
}

// nistAreas are the areas of IR 8425 by our abbreviations: it has none.
func nistAreas() map[string]string {
	out := map[string]string{}
	for i, short := range []string{"AI", "PC", "DP", "IAC", "SU", "CSA", "Doc", "IQR", "Diss", "Edu"} {
		out[short] = NIST.IDs()[i]
	}
	return out
}

// spread makes ids of pairs: what they begin with, and how each of them ends.
func spread(join, part string, pairs ...string) (out []string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		for end := range strings.SplitSeq(pairs[i+1], part) {
			out = append(out, pairs[i]+join+end)
		}
	}
	return out
}

// numbered are the ids from 1 to last.
func numbered(format string, last int) (out []string) {
	for n := 1; n <= last; n++ {
		out = append(out, fmt.Sprintf(format, n))
	}
	return out
}
