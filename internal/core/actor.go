package core

// ActorKind says what sort of someone asks.
type ActorKind string

// The kinds of actor.
const (
	ActorDevice ActorKind = "device" // ID is the subject pseudonym of the device
	ActorStaff  ActorKind = "staff"  // ID is the staff id; on the local socket "os:NAME(UID)"
	ActorPerson ActorKind = "person" // ID is the person's subject pseudonym
	ActorJob    ActorKind = "job"    // ID is the name of one of the program's own jobs
	// ActorService is a service of the maker that reads; ID is its name.
	ActorService ActorKind = "service"
)

// Actor is who does or asks something. Its ID is a staff id or a pseudonym,
// never a name or a serial number: it stands in clear in the ledger.
type Actor struct {
	Kind ActorKind
	ID   string
}

// String is the actor as the ledger and people's screens show it.
func (a Actor) String() string { return string(a.Kind) + ":" + a.ID }

// Job is the actor for one of the program's own jobs.
func Job(name string) Actor { return Actor{Kind: ActorJob, ID: name} }
