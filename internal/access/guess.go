package access

import (
	"math"
	"slices"
	"strings"
	"unicode"
)

// estimator estimates how many guesses somebody needs who knows how people make
// passwords: from words, names, years, dates, runs over the keyboard, and the
// same again. It finds the cheapest way to put the password together.
type estimator struct {
	rank map[string]float64 // word in lower case → how soon it is tried
	runs []string           // twice each way over the keyboard, and back
}

// maxJudged is how many characters are looked at: what follows only adds.
const maxJudged = 100

func newEstimator(own []string) *estimator {
	e := &estimator{rank: map[string]float64{}}
	for i, w := range commonWords() {
		e.rank[w] = float64(i + 1)
	}
	for _, row := range keyboardRuns() {
		back := []rune(row + row)
		slices.Reverse(back)
		e.runs = append(e.runs, row+row, string(back))
	}
	for _, w := range own {
		for _, part := range append(strings.FieldsFunc(w, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }), w) {
			if part = plain([]rune(part)); len(part) >= 3 {
				e.rank[part] = 1
			}
		}
	}
	return e
}

// perRune is how many guesses a character takes that fits no pattern. It is
// deliberately low: attackers know which characters follow which.
const perRune = 10

// guesses is the estimate. It takes O(n²) pieces of at most maxJudged runes.
func (e *estimator) guesses(password string) float64 {
	r := []rune(password)
	if len(r) > maxJudged {
		r = r[:maxJudged]
	}
	n := len(r)
	// best[k][i]: the cheapest product of k pieces that make the first i runes.
	// An attacker does not know how many pieces there are, nor in which order:
	// k of them take k! times as long.
	const maxPieces = 16
	best := make([][]float64, maxPieces+1)
	for k := range best {
		best[k] = slices.Repeat([]float64{math.Inf(1)}, n+1)
	}
	best[0][0] = 1
	for i := 1; i <= n; i++ {
		for j := range i {
			g := e.piece(r[j:i])
			for k := 1; k <= maxPieces; k++ {
				best[k][i] = min(best[k][i], best[k-1][j]*g)
			}
		}
	}
	out, factorial := math.Inf(1), 1.0
	for k := 1; k <= maxPieces; k++ {
		factorial *= float64(k)
		out = min(out, best[k][n]*factorial)
	}
	return out
}

// piece is how many guesses one piece takes by the best of the patterns.
func (e *estimator) piece(r []rune) float64 {
	g := math.Pow(perRune, float64(len(r)))
	for _, pattern := range []func([]rune) (float64, bool){e.word, repeated, e.run, digits} {
		if p, ok := pattern(r); ok {
			g = min(g, p)
		}
	}
	return max(g, 1)
}

// leet are the signs that stand for letters.
func leet() map[rune]rune {
	return map[rune]rune{'0': 'o', '1': 'i', '3': 'e', '4': 'a', '5': 's', '7': 't', '8': 'b', '@': 'a', '$': 's', '!': 'i', '|': 'l', '+': 't', '9': 'g'}
}

// plain is a word in lower case.
func plain(r []rune) string {
	out := make([]rune, len(r))
	for i, c := range r {
		out[i] = unicode.ToLower(c)
	}
	return string(out)
}

// word is a known one, forward or backward, in any writing.
func (e *estimator) word(r []rune) (float64, bool) {
	if len(r) < 2 || len(r) > 30 {
		return 0, false
	}
	signs := leet()
	lower, upper := make([]rune, len(r)), 0
	for i, c := range r {
		lower[i] = unicode.ToLower(c)
		if unicode.IsUpper(c) {
			upper++
		}
		if l, ok := signs[c]; ok {
			lower[i] = l
		}
	}
	found, ok := e.rank[plain(r)]
	if !ok {
		if found, ok = e.rank[string(lower)]; ok {
			found *= 4
		} else {
			slices.Reverse(lower)
			if found, ok = e.rank[string(lower)]; !ok {
				return 0, false
			}
			found *= 8
		}
	}
	switch {
	case upper == 0 || upper == len(r) || upper == 1 && unicode.IsUpper(r[0]):
		found *= float64(1 + min(upper, 1))
	default:
		found *= 20
	}
	return found, true
}

// repeated is the same again and again: "aaaa", "abcabc".
func repeated(r []rune) (float64, bool) {
	for size := 1; size <= len(r)/2; size++ {
		if len(r)%size != 0 || len(r) < 3 {
			continue
		}
		same := true
		for i := size; i < len(r) && same; i++ {
			same = r[i] == r[i-size]
		}
		if same {
			return math.Pow(perRune, float64(min(size, 4))) * float64(len(r)/size), true
		}
	}
	return 0, false
}

// keyboardRuns are the ways a finger runs over the keyboards of several countries, and
// through the alphabet.
func keyboardRuns() []string {
	return []string{
		"1234567890", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./", "!@#$%^&*()_+", "`1234567890-=",
		"qwertzuiopü", "asdfghjklöä", "yxcvbnm,.-", "azertyuiop", "qsdfghjklm", "wxcvbn",
		"1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/", "qazwsxedcrfvtgbyhnujmikolp", "zaqxswcdevfrbgtnhymjukilop", "1q2w3e4r5t6y7u8i9o0p", "q1w2e3r4t5y6u7i8o9p0",
		"qweasdzxc", "qweqweasdasdzxczxc", "147258369", "963852741", "159357", "789456123", "abcdefghijklmnopqrstuvwxyz", "aabbccddeeffgghhiijjkkllmmnnooppqqrrssttuuvvwwxxyyzz",
		"a1b2c3d4e5f6g7h8i9", "1a2b3c4d5e6f7g8h9i", "112233445566778899", "011235813213455", "31415926535897932384", "2718281828459",
	}
}

// run is a piece of such a row, forward or backward.
func (e *estimator) run(r []rune) (float64, bool) {
	if len(r) < 3 {
		return 0, false
	}
	s := plain(r)
	if slices.ContainsFunc(e.runs, func(run string) bool { return len(s) <= len(run) && strings.Contains(run, s) }) {
		return 40 * float64(len(r)), true
	}
	return 0, false
}

// digits are years and dates.
func digits(r []rune) (float64, bool) {
	var n int
	for _, c := range r {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
		if len(r) > 8 {
			return 0, false
		}
	}
	year := func(y int) bool { return y >= 1920 && y <= 2040 }
	day := func(d, m int) bool { return d >= 1 && d <= 31 && m >= 1 && m <= 12 }
	switch len(r) {
	case 2:
		return 60, true
	case 4:
		if year(n) {
			return 120, true
		}
		if day(n/100, n%100) || day(n%100, n/100) {
			return 400, true
		}
	case 6:
		return 40000, true // day, month and year of two digits, in any order
	case 8:
		d, m, y := n/1000000, n/10000%100, n%10000
		if year(y) && (day(d, m) || day(m, d)) {
			return 40000, true
		}
		if y, m, d := n/10000, n/100%100, n%100; year(y) && (day(d, m) || day(m, d)) {
			return 40000, true
		}
	}
	return 0, false
}
