package access

import (
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// What the ledger says of people. Facts name persons by their staff ids.
const (
	RecordInvited    core.RecordKind = "person-invited"
	RecordLinkUsed   core.RecordKind = "setup-link-used"
	RecordLinkReplay core.RecordKind = "setup-link-replayed"
	RecordJoined     core.RecordKind = "person-joined"
	RecordWaiting    core.RecordKind = "approver-waiting"
	RecordRoles      core.RecordKind = "roles-changed"
	RecordDisabled   core.RecordKind = "person-disabled"
	RecordEnded      core.RecordKind = "session-ended"
	RecordSignedIn   core.RecordKind = "signed-in"
	RecordRefused    core.RecordKind = "sign-in-refused"
	RecordKeyAdded   core.RecordKind = "passkey-added"
	RecordKeyRemoved core.RecordKind = "passkey-removed"
	RecordKeySuspect core.RecordKind = "passkey-suspected"
	RecordMeans      core.RecordKind = "means-changed"
	RecordRefounded  core.RecordKind = "founders-ended"
	RecordReviewed   core.RecordKind = "founders-reviewed"
)

func factRoles(roles []Role) core.Fact {
	var names []string
	for _, r := range roles {
		names = append(names, string(r))
	}
	return core.Fact{Name: "roles", Value: strings.Join(names, ",")}
}

func factMeans(means []gate.Means) core.Fact {
	var names []string
	for _, m := range means {
		names = append(names, string(m))
	}
	return core.Fact{Name: "means", Value: strings.Join(names, ",")}
}

func factYes(name string, yes bool) core.Fact {
	v := "no"
	if yes {
		v = "yes"
	}
	return core.Fact{Name: name, Value: v}
}
