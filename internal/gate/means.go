package gate

import "time"

// Means is what somebody proves with who they are.
type Means string

// The means. A new one gets a line in class, too.
const (
	Password      Means = "password"
	TOTP          Means = "totp"
	RecoveryCode  Means = "recovery-code"
	Passkey       Means = "passkey"
	SetupLink     Means = "setup-link"
	EnrolmentCode Means = "enrolment-code"
	ClaimCode     Means = "claim-code"
	ResetLink     Means = "reset-link"
	APIKey        Means = "api-key"
	DeviceToken   Means = "device-token"
)

// AllMeans are all means.
func AllMeans() []Means {
	return []Means{Password, TOTP, RecoveryCode, Passkey, SetupLink, EnrolmentCode, ClaimCode, ResetLink, APIKey, DeviceToken}
}

// class sorts means by how hard they are to guess.
type class uint8

const (
	unknownMeans class = iota
	// guessable: what people choose, and what people type off a slip. A day's
	// guesses at one account are limited, wherever they come from.
	guessable
	// machineMade: at least 128 random bits. Guessing is hopeless; only the
	// source that does it is slowed down (design, section 5, Identity).
	machineMade
)

func (m Means) class() class {
	switch m {
	case Password, TOTP, RecoveryCode, ClaimCode:
		return guessable
	case Passkey, SetupLink, EnrolmentCode, ResetLink, APIKey, DeviceToken:
		return machineMade
	default:
		return unknownMeans
	}
}

// Valid reports whether m is one of the means.
func (m Means) Valid() bool { return m.class() != unknownMeans }

// Guessable reports whether the wrong tries at one account are limited
// wherever they come from.
func (m Means) Guessable() bool { return m.class() == guessable }

// Limits are the numbers that a Gate goes by.
type Limits struct {
	// FreeTries at one account from one network go without a delay; then
	// FirstDelay, doubled with each further one, up to LongestDelay.
	FreeTries                int
	FirstDelay, LongestDelay time.Duration
	// GuessesPerDay is the most wrong tries at one account in any 24 hours,
	// from all networks together, without a known device.
	GuessesPerDay int
	// KnownTries in a row a known device has with one means; then it is a
	// stranger until KnownLife is over.
	KnownTries int
	KnownLife  time.Duration
	// Account, Source and All are the budgets of guessable means for one
	// account, one network and everybody; MadeSource and MadeAll those of
	// machine-made secrets. While an All is nearly used up, one network has
	// HotBurst instead of its own.
	Account, Source, All Budget
	MadeSource, MadeAll  Budget
	HotBurst             int
	// MadeAtOnce is how many machine-made secrets of one source may be under
	// comparison at once beside the budget: a factory enrols many devices.
	MadeAtOnce int
	// TellFrom wrong tries on, an account's owner is told, at most once in
	// TellEvery; the ledger gets a record at most as often, and Records bounds
	// those of all accounts.
	TellFrom  int
	TellEvery time.Duration
	Records   Budget
	// Rows bounds each table; Waiting the attempts that wait for the disk.
	Rows    map[Scope]int
	Waiting int
}

// Budget is a token bucket: Burst tries at once, one more every Refill.
type Budget struct {
	Burst  int
	Refill time.Duration
}

const day = 24 * time.Hour

// Standard are the limits of every Gate. They fit together: before a try at an
// account is forgiven, All lets fewer than 37,000 others through, and the table
// of accounts has 65,536 rows; before the longest delay of a Pair is over,
// fewer than 20,000, of 32,768 rows. Nobody can push out a row that counts.
func Standard() Limits {
	return Limits{
		FreeTries: 5, FirstDelay: time.Second, LongestDelay: 15 * time.Minute,
		// CC 1.13, 1.14: a bucket of half a day's guesses that takes a day to
		// fill again lets no 24 hours have more than 100.
		GuessesPerDay: 100, Account: Budget{50, day / 50},
		KnownTries: 20, KnownLife: 180 * day,
		Source: Budget{30, time.Minute}, All: Budget{2000, 50 * time.Millisecond},
		MadeSource: Budget{20, 30 * time.Second}, MadeAll: Budget{2000, 5 * time.Millisecond},
		HotBurst: 2, MadeAtOnce: 256,
		TellFrom: 5, TellEvery: time.Hour, Records: Budget{60, time.Minute},
		Rows: map[Scope]int{
			Pair: 1 << 15, KnownDevice: 1 << 14, Source: 1 << 15, Account: 1 << 16, MadeSource: 1 << 16, MadeAccount: 1 << 14, All: 16,
		},
		Waiting: 4096,
	}
}
