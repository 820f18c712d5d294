package declaration

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Patterns of text with a fixed form. They are written in what RE2 and ECMA 262
// (as JSON Schema has it) share.
const (
	spanPart        = `[1-9][0-9]{0,8}(ms|s|m|h|d|w|y)`
	spanPattern     = `^` + spanPart + `$`
	sleepPattern    = `^(until-end-of-support|` + spanPart + `)$`
	datePattern     = `^2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$`
	productPattern  = `^[a-z][a-z0-9-]{0,62}$`
	namePattern     = `^[a-z][a-z0-9_-]{0,62}$`
	fieldPattern    = `^[A-Za-z][A-Za-z0-9_.-]{0,62}$`
	purposePattern  = `^(service|security|safety|support|research|improvement|legal|marketing)\.[a-z][a-z0-9_]{0,31}$`
	sharePurpose    = purposePattern
	hostPattern     = `^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.){1,8}[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`
	endPattern      = `^(shred|aggregate\(k=[1-9][0-9]{0,5}, ?by=(hour|day|week|month)\))$`
	clock           = `([01][0-9]|2[0-3]):[0-5][0-9]`
	windowPattern   = `^` + clock + `-` + clock + `$`
	transforms      = `geo_grid\([1-9][0-9]{0,3}(m|km)\)|hour|day|week|month|round\((0\.[0-9]{0,8}[1-9]|[1-9][0-9]{0,8})\)|pseudonym|k\([1-9][0-9]{0,5}\)`
	transformRegexp = `^(` + transforms + `)$`
	unitPattern     = `^[!-~]{1,32}$`
	contactPattern  = `^([A-Za-z0-9._+-]{1,64}@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.){1,8}[a-z][a-z0-9-]{0,62}|https://([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.){1,8}[a-z][a-z0-9-]{0,62}(:[1-9][0-9]{0,4})?(/[A-Za-z0-9._~%/#?=&+-]{0,200})?)$`
	controlPattern  = `^(DS-0[1-9]|RP-0[1-6]|AC-0[1-7]|DM-(0[1-9]|1[01])|MR-(0[1-9]|10)|CU-0[1-8]|CO-0[1-9]|CL-0[1-3])$`
)

// day is 24 hours: keep-times do not follow summer time.
const day = 24 * time.Hour

// Roles lists the roles that a reader or a giver of commands can have: first
// those of the people around the device, then those of the maker's staff.
func Roles() []string { return append(peopleRoles(), staffRoles()...) }

func peopleRoles() []string { return []string{"owner", "household"} }

// IsStaffRole reports whether a role is one of the maker's staff. Nobody of the
// staff acts as the owner, or as a service.
func IsStaffRole(role string) bool { return slices.Contains(staffRoles(), role) }

func staffRoles() []string {
	return []string{"support", "engineering", "security", "operations", "legal", "marketing"}
}

func readerPattern() string {
	return `^(` + strings.Join(Roles(), "|") + `|(service|share):[a-z][a-z0-9_-]{0,62})$`
}

func byPattern() string {
	return `^(` + strings.Join(Roles()[:len(Roles())-1], "|") + `|service:[a-z][a-z0-9_-]{0,62})$`
}

func protections() []string {
	return []string{string(NoStaff), string(NoShares), string(Coarse), string(StepUp), string(TwoPersons)}
}

// parseSpan reads a span that matches spanPattern. It fails when the span is
// longer than a time.Duration can hold (292 years).
func parseSpan(s string) (time.Duration, bool) {
	i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if i <= 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(s[:i], 10, 64)
	if err != nil {
		return 0, false
	}
	unit := spanUnit(s[i:])
	if unit == 0 || n > math.MaxInt64/int64(unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

func spanUnit(s string) time.Duration {
	switch s {
	case "ms":
		return time.Millisecond
	case "s":
		return time.Second
	case "m":
		return time.Minute
	case "h":
		return time.Hour
	case "d":
		return day
	case "w":
		return 7 * day
	case "y":
		return 365 * day
	}
	return 0
}

// span is d in its canonical form: the largest of d, h, m, s and ms that
// divides it.
func span(d time.Duration) string {
	for _, u := range []string{"d", "h", "m", "s"} {
		if d != 0 && d%spanUnit(u) == 0 {
			return strconv.FormatInt(int64(d/spanUnit(u)), 10) + u
		}
	}
	return strconv.FormatInt(int64(d/time.Millisecond), 10) + "ms"
}

// parseDate reads a day as its last second, so that "until" includes it.
func parseDate(s string) (time.Time, bool) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return time.Time{}, false
	}
	return t.Add(day - time.Second), true
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// aggregate takes "aggregate(k=20, by=day)" apart; k is 0 for "shred".
func aggregate(s string) (k int, by string) {
	s, ok := strings.CutPrefix(s, "aggregate(k=")
	if !ok {
		return 0, ""
	}
	num, by, _ := strings.Cut(strings.TrimSuffix(s, ")"), ",")
	k, _ = strconv.Atoi(num) // the pattern allows digits only
	return k, strings.TrimPrefix(strings.TrimSpace(by), "by=")
}

// canonicalEnd is a when_done in its one spelling.
func canonicalEnd(s string) string {
	if k, by := aggregate(s); k > 0 {
		return fmt.Sprintf("aggregate(k=%d, by=%s)", k, by)
	}
	return s
}

// transform takes "k(20)" apart.
func transform(s string) (name, arg string) {
	name, arg, _ = strings.Cut(strings.TrimSuffix(s, ")"), "(")
	return name, arg
}

// fixPattern says what to write instead of text that does not match.
func fixPattern(s *shape, text string) string {
	low := strings.ToLower(strings.TrimSpace(text))
	switch s.rule {
	case ruleReader, ruleCommandBy:
		if s.rule == ruleCommandBy && (low == "marketing" || strings.HasPrefix(low, "share:")) {
			return "remove it: marketing and shares give no commands"
		}
		if near := nearest(low, Roles()); near != "" {
			return "did you mean " + near + "?"
		}
		if s.rule == ruleReader && nameForm().MatchString(low) {
			return fmt.Sprintf("write service:%s or share:%s and declare it, or take a role: %s", low, low, strings.Join(Roles(), ", "))
		}
		return "take a role (" + strings.Join(Roles(), ", ") + ") or service:NAME" + map[bool]string{true: " or share:NAME"}[s.rule == ruleReader]
	case rulePurpose:
		family, word, dotted := strings.Cut(low, ".")
		families := strings.Split("service security safety support research improvement legal marketing", " ")
		if near := nearest(family, families); near != "" && dotted && purposeWord().MatchString(word) {
			return "did you mean " + near + "." + word + "?"
		} else if near != "" {
			return "say more closely what for, such as " + near + ".history"
		}
		return "begin with one of " + strings.Join(families, ", ") + ", a dot and a word"
	case ruleTalksTo:
		switch {
		case strings.Contains(low, "*"):
			return "name each host: a wildcard lets the device talk to anybody there"
		case isAddress(low):
			return "write a DNS name: addresses change, and routers allow by name"
		}
		return "write a DNS name in lower case, such as ntp.example.com"
	case ruleEnd:
		return "write shred, or aggregate(k=20, by=day) with by one of hour, day, week, month"
	}
	switch s.pattern {
	case datePattern:
		return "write year-month-day, such as 2032-12-31"
	case sleepPattern:
		if eternal(low) {
			return "write until-end-of-support, or a span such as 2y"
		}
		return fixSpan(s, low)
	case spanPattern:
		return fixSpan(s, low)
	}
	return "write " + s.want
}

var purposeWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`) })

var nameForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(namePattern) })

func isAddress(s string) bool {
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err == nil
}

// eternal reports whether text asks for a span without end.
func eternal(text string) bool {
	low := strings.ToLower(text)
	return strings.Contains(low, "ever") || strings.Contains(low, "unlimited") || strings.Contains(low, "infinite")
}

func fixSpan(s *shape, low string) string {
	switch {
	case eternal(low):
		return "nothing is kept for ever: write a span between 1h and 10y, such as 30d"
	case strings.Contains(low, "month") || strings.HasSuffix(low, "mo"):
		return "months differ in length: write days, such as 30d"
	case strings.HasPrefix(low, "-"):
		return "write a span above zero, such as 30d"
	}
	if d, err := time.ParseDuration(low); err == nil && d > 0 && d%time.Millisecond == 0 {
		return "write " + span(d)
	}
	for unit, short := range longUnits() {
		num, ok := strings.CutSuffix(strings.TrimSuffix(low, "s"), unit)
		if num = strings.TrimSpace(num); ok && num != "" && strings.Trim(num, "0123456789") == "" {
			return "write " + num + short
		}
	}
	return "write " + s.want
}

var longUnits = sync.OnceValue(func() map[string]string {
	return map[string]string{"second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "day": "d", "week": "w", "year": "y"}
})
