package access

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

func judge(d Deps) *Service {
	return &Service{d: d, host: "console.northwind.example", easy: sync.OnceValue(newEasyList)}
}

// TestEasyPasswordsAreRefused: the list really holds passwords that the rule
// on length lets through (ASVS 6.2.4, 6.2.12).
func TestEasyPasswordsAreRefused(t *testing.T) {
	s := judge(Deps{Name: "Northwind Home", Words: []string{"Aria Thermostat"}})
	ada := Details{Name: "Ada Lovelace", Mail: "ada.lovelace@northwind.example"}
	for _, p := range []string{
		"Password2024!", "Password1234", "P@ssw0rd2024", "passwordpassword", "password123!", "Passw0rd!234", "PASSWORD12345",
		"qwertyuiop123", "qwertyuiopasdf", "1q2w3e4r5t6y", "qazwsxedcrfv", "zaq12wsxcde3", "asdfghjkl123", "poiuytrewq123", "1qaz2wsx3edc", "qwertzuiop12", "azertyuiop12",
		"iloveyou12345", "ilovemymother", "correcthorsebatterystaple", "Correct Horse Battery Staple", "Summer2026!!!!", "Winter2025!!", "Spring2026!!", "Herbst2025!!",
		"123456789012", "000000000000", "111111111111", "121212121212", "abcabcabcabc", "abcdefghijkl", "aaaaaaaaaaaa", "987654321098", "112233445566", "qweqweqweqwe",
		"welcome12345", "Welcome2026!", "letmein123456", "administrator", "Administrator1!", "adminadmin123", "football12345", "baseball2020", "monkey123456!", "dragon1234567",
		"princess1234", "sunshine2024", "michael12345", "jennifer1990", "trustno1trustno1", "starwars1977", "superman1234", "liverpool2005", "Barcelona1899",
		"Northwind2026", "northwind-home1", "Hawser123456", "hawserconsole", "AriaThermostat1", "thermostat2026", "adalovelace1", "LovelaceAda12", "ada.lovelace1",
		"maytheforcebewithyou", "thequickbrownfox", "tobeornottobe!", "hakunamatata1", "opensesame123", "changemenow123", "ichliebedich12", "geheim123456",
		"drowssap1234", "3edcvfr4bgt5", "monkeymonkey1", "LondonLondon1", "Mercedes2020!", "31121999311219",
	} {
		err := s.judgePassword(p, ada)
		if got := core.ReasonOf(err); got != "password-easy" {
			t.Errorf("%q: %v", p, err)
		}
	}
}

// TestListHoldsManyPasswords counts what the list really holds: passwords of
// the allowed length, made by a program of its own that knows how people
// choose.
func TestListHoldsManyPasswords(t *testing.T) {
	s := judge(Deps{Name: "X"})
	easy := s.easy()
	ends := []string{"123", "1234", "12345", "123456", "1990", "2000", "2015", "2023", "2024", "2025", "2026", "01", "99", "007"}
	n := 0
	for _, w := range commonWords() {
		for _, e := range ends {
			for _, f := range []string{"", "!", "!!!", "#"} {
				for _, word := range []string{w, strings.ToUpper(w[:1]) + w[1:], strings.NewReplacer("a", "@", "o", "0", "e", "3", "s", "$").Replace(w)} {
					p := word + e + f
					if utf8.RuneCountInString(p) < minPasswordRunes {
						continue
					}
					if n++; !easy.contains(p) {
						t.Fatalf("%q is not in the list", p)
					}
				}
			}
		}
	}
	if n < 40_000 {
		t.Errorf("tried only %d", n)
	}
	// The list is in charge alone, too: nothing but the estimate knows the rest.
	refused, estimated := 0, newEstimator(nil)
	r := mrand.New(mrand.NewPCG(1, 2))
	words := commonWords()
	for range 1500 {
		p := words[r.IntN(300)] + words[r.IntN(300)] + fmt.Sprint(r.IntN(100))
		if utf8.RuneCountInString(p) >= minPasswordRunes && estimated.guesses(p) < minGuesses {
			refused++
		}
	}
	if refused < 1000 {
		t.Errorf("two common words and a number: %d refused", refused)
	}
	t.Logf("%d passwords of 12 characters and more are in the list; of two words and a number %d were refused", n, refused)
}

// TestGoodPasswordsPass: what is drawn at random is taken, in any script.
func TestGoodPasswordsPass(t *testing.T) {
	s := judge(Deps{Name: "Northwind Home"})
	ada := Details{Name: "Ada Lovelace", Mail: "ada@northwind.example"}
	r := mrand.New(mrand.NewPCG(3, 4)) // the same ones in every run: one in many thousands happens to hold a word
	pick := func(from []rune, n int) string {
		out := make([]rune, n)
		for i := range out {
			out[i] = from[r.IntN(len(from))]
		}
		return string(out)
	}
	letters := []rune("abcdefghijkmnopqrstuvwxyz")
	signs := []rune("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789!%&/()=?+-")
	for range 200 {
		for _, p := range []string{
			pick(signs, 12), pick(letters, 16), pick([]rune("あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"), 12), pick([]rune("0123456789"), 20),
			pick(letters, 6) + " " + pick(letters, 5) + " " + pick(letters, 7),
		} {
			if err := s.judgePassword(p, ada); err != nil {
				t.Errorf("%q: %v", p, err)
			}
		}
	}
	for _, p := range []string{
		"plinth warble oxide tundra", "gravel-otter-lantern-quince", "vier Esel tanzen im Nebel", "Мой дядя самых честных правил", "🦊🐢🚲🍋🎺🪐🧵🛶🎲🧊🪴🧯",
	} {
		if err := s.judgePassword(p, ada); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestPasswordLength(t *testing.T) {
	s := judge(Deps{Name: "X"})
	for p, want := range map[string]string{
		"":                                    "password-short",
		"wG7#kq2!xZp":                         "password-short",
		"wG7#kq2!xZpe\u0301":                  "",               // 13 characters, composed 12
		"e\u0301wG7#kq2!xZ":                   "password-short", // 12 as typed, 11 composed
		strings.Repeat("wG7#kq2!xZp", 94):     "password-long",
		"wG7#kq2!xZp\xff\xfe":                 "password",
		"            ":                        "password-easy",
		"wG7#kq2!xZpL" + "\u0000" + "control": "",
	} {
		if err := s.judgePassword(p, Details{}); core.ReasonOf(err) != want && (err != nil || want != "") {
			t.Errorf("%q: %v, want %q", p, err, want)
		}
	}
}

// breached writes a list of passwords as it is published.
func breached(t testing.TB, ending string, passwords ...string) string {
	t.Helper()
	var lines []string
	for i, p := range passwords {
		h := sha1.Sum([]byte(p))
		lines = append(lines, strings.ToUpper(hex.EncodeToString(h[:]))+fmt.Sprintf(":%d", i*i*i))
	}
	slices.Sort(lines)
	name := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(name, []byte(strings.Join(lines, ending)+ending), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestBreachedList: an operator's list is searched where it lies, every line of
// it, with any line ending.
func TestBreachedList(t *testing.T) {
	for _, ending := range []string{"\n", "\r\n"} {
		for _, size := range []int{1, 2, 3, 10, 1000} {
			var all []string
			for i := range size {
				all = append(all, fmt.Sprintf("breached number %d", i))
			}
			f, err := OpenBreached(breached(t, ending, all...))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range all {
				if found, err := f.Contains(sha1.Sum([]byte(p))); err != nil || !found {
					t.Fatalf("%d lines: %q is not found: %v", size, p, err)
				}
			}
			for i := range 500 {
				if found, err := f.Contains(sha1.Sum(fmt.Appendf(nil, "other %d", i))); err != nil || found {
					t.Fatalf("%d lines: something else is found: %v", size, err)
				}
			}
			s := judge(Deps{Name: "X", Breached: f})
			if err := s.judgePassword(all[0], Details{}); core.ReasonOf(err) != "password-breached" {
				t.Errorf("a breached password: %v", err)
			}
			if err := s.judgePassword("plinth warble oxide tundra", Details{}); err != nil {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if err := s.judgePassword("plinth warble oxide tundra", Details{}); err == nil {
				t.Error("a list that cannot be read lets passwords through")
			}
		}
	}
	for what, text := range map[string]string{
		"empty": "", "no list": "hello\nworld\n", "short": "ABC\n", "no hex": strings.Repeat("Z", 40) + "\n", "out of order": strings.Repeat("B", 40) + ":1\n" + strings.Repeat("A", 40) + ":1\n",
		"long lines": strings.Repeat("A", 40) + ":" + strings.Repeat("1", 500) + "\n",
	} {
		name := filepath.Join(t.TempDir(), "bad.txt")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := OpenBreached(name); err == nil {
			t.Errorf("%s: opened", what)
			_ = f.Close()
		}
	}
	if _, err := OpenBreached(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("opened a file that is not there")
	}
}

func FuzzBreachedList(f *testing.F) {
	f.Add([]byte(strings.Repeat("A", 40)+":1\n"+strings.Repeat("B", 40)+":2\n"), []byte("x"))
	f.Add([]byte("\n\n\n"), []byte(""))
	f.Fuzz(func(t *testing.T, list, password []byte) {
		name := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(name, list, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := OpenBreached(name)
		if err != nil {
			return
		}
		defer b.Close()
		_, _ = b.Contains(sha1.Sum(password)) // it ends
	})
}

// FuzzTyped: what people type is judged or refused, never more.
func FuzzTyped(f *testing.F) {
	s := judge(Deps{Name: "X"})
	for _, seed := range []string{"123 456", "123456", "", "7G3KD-7G3KD-7G3KD-7G3KD-7G3KD-7", "ada@northwind.example", "Password2024!", "\xff\xfe", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAA"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if c, ok := cleanCode(in); ok && len(c) != totpDigits {
			t.Errorf("one-time code %q", c)
		}
		if h, ok := parseRecovery(in); ok == h.IsZero() {
			t.Errorf("recovery code %q: %v", in, ok)
		}
		if m, ok := cleanMail(in); ok {
			if again, ok := cleanMail(m); !ok || again != m {
				t.Errorf("mail address %q becomes %q becomes %q", in, m, again)
			}
		}
		if d, err := (Details{Name: in, Mail: "a@b.c"}).clean(); err == nil {
			if again, err := d.clean(); err != nil || again != d {
				t.Errorf("name %q becomes %q becomes %q, %v", in, d.Name, again.Name, err)
			}
		}
		_ = validSecret(in)
		if end, ok := ceremonyEnds(in); ok && end == 0 && in == "" {
			t.Error("an empty id has an end")
		}
		if e, err := parseEncoded(in); err == nil && (e.memoryKiB > maxArgonMemoryKiB || len(e.hash) != argonHash) {
			t.Errorf("hash %q: %+v", in, e)
		}
		_ = s.judgePassword(in, Details{Name: in, Mail: in})
		_, _ = cleanLabel(in)
		if !PersonID(in).Valid() && strings.HasPrefix(in, "p") && len(in) == 13 && strings.Trim(in, idAlphabet) == "" {
			t.Errorf("%q is a staff id", in)
		}
	})
}

// TestPeriodAtDecision: a session that is held for longer than the period
// permits nothing any more, whoever forgot to ask for it anew; and whoever has
// a period is no more than an assessor, whatever the roles say.
func TestPeriodAtDecision(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := Session{Person: "paaaaaaaaaaaa", Roles: Roles(), Means: []gate.Means{gate.Passkey}, Period: Period{From: noon, Until: noon.Add(time.Hour)}, at: noon}
	if !s.Allows("check.list") || s.Allows("device.list") || s.Allows("people.invite") || s.Allows("declaration.list") {
		t.Error("an assessor with every role may more than see what is proved, or not even that")
	}
	for _, at := range []time.Time{noon.Add(-1), noon.Add(time.Hour)} {
		if s.at = at; s.Allows("check.list") {
			t.Errorf("at %s it permits something", at)
		}
	}
}
