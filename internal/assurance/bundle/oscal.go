package bundle

import (
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
)

// What follows are the parts of OSCAL 1.2.2 that are written here, by the names
// of its JSON form: https://pages.nist.gov/OSCAL/reference/1.2.2. None is ever
// read back.
const oscalVersion = "1.2.2"

// oscalNS is the namespace of properties that OSCAL itself does not have.
const oscalNS = "urn:hawser:evidence:1"

type (
	oResultsFile struct {
		Results oAssessmentResults `json:"assessment-results"`
	}
	oComponentsFile struct {
		Definition oComponentDefinition `json:"component-definition"`
	}
	oMetadata struct {
		Title        string    `json:"title"`
		LastModified time.Time `json:"last-modified"`
		Version      string    `json:"version"`
		OSCAL        string    `json:"oscal-version"`
		Props        []oProp   `json:"props,omitempty"`
		Remarks      string    `json:"remarks,omitempty"`
	}
	oProp struct {
		Name  string `json:"name"`
		NS    string `json:"ns"`
		Value string `json:"value"`
	}
	oLink struct {
		Href string `json:"href"`
		Rel  string `json:"rel,omitempty"`
		Text string `json:"text,omitempty"`
	}
	oBackMatter struct {
		Resources []oResource `json:"resources"`
	}
	oResource struct {
		UUID        string   `json:"uuid"`
		Title       string   `json:"title"`
		Description string   `json:"description"`
		RLinks      []oRLink `json:"rlinks"`
	}
	oRLink struct {
		Href string `json:"href"`
	}

	oAssessmentResults struct {
		UUID       string      `json:"uuid"`
		Metadata   oMetadata   `json:"metadata"`
		ImportAP   oImportAP   `json:"import-ap"`
		Results    []oResult   `json:"results"`
		BackMatter oBackMatter `json:"back-matter"`
	}
	oImportAP struct {
		Href    string `json:"href"`
		Remarks string `json:"remarks,omitempty"`
	}
	oResult struct {
		UUID         string             `json:"uuid"`
		Title        string             `json:"title"`
		Description  string             `json:"description"`
		Start        time.Time          `json:"start"`
		End          time.Time          `json:"end"`
		Props        []oProp            `json:"props"`
		Local        *oLocalDefinitions `json:"local-definitions,omitempty"`
		Reviewed     oReviewed          `json:"reviewed-controls"`
		Observations []oObservation     `json:"observations,omitempty"`
		Findings     []oFinding         `json:"findings,omitempty"`
	}
	oLocalDefinitions struct {
		Components []oSystemComponent `json:"components"`
	}
	oSystemComponent struct {
		UUID        string  `json:"uuid"`
		Type        string  `json:"type"`
		Title       string  `json:"title"`
		Description string  `json:"description"`
		Status      oStatus `json:"status"`
	}
	oStatus struct {
		State   string `json:"state"`
		Reason  string `json:"reason,omitempty"`
		Remarks string `json:"remarks,omitempty"`
	}
	oReviewed struct {
		Description string       `json:"description"`
		Selections  []oSelection `json:"control-selections"`
	}
	oSelection struct {
		Description string        `json:"description"`
		Include     []oControlRef `json:"include-controls,omitempty"`
		Exclude     []oControlRef `json:"exclude-controls,omitempty"`
	}
	oControlRef struct {
		ID string `json:"control-id"`
	}
	oObservation struct {
		UUID        string      `json:"uuid"`
		Title       string      `json:"title"`
		Description string      `json:"description"`
		Props       []oProp     `json:"props"`
		Methods     []string    `json:"methods"`
		Types       []string    `json:"types"`
		Origins     []oOrigin   `json:"origins"`
		Evidence    []oEvidence `json:"relevant-evidence"`
		Collected   time.Time   `json:"collected"`
		Expires     time.Time   `json:"expires"`
		Remarks     string      `json:"remarks,omitempty"`
	}
	oOrigin struct {
		Actors []oActor `json:"actors"`
	}
	oActor struct {
		Type string `json:"type"`
		UUID string `json:"actor-uuid"`
	}
	oEvidence struct {
		Href        string `json:"href,omitempty"`
		Description string `json:"description"`
	}
	oFinding struct {
		UUID        string     `json:"uuid"`
		Title       string     `json:"title"`
		Description string     `json:"description"`
		Props       []oProp    `json:"props"`
		Target      oTarget    `json:"target"`
		Related     []oRelated `json:"related-observations,omitempty"`
	}
	oTarget struct {
		Type   string  `json:"type"`
		ID     string  `json:"target-id"`
		Status oStatus `json:"status"`
	}
	oRelated struct {
		UUID string `json:"observation-uuid"`
	}

	oComponentDefinition struct {
		UUID       string       `json:"uuid"`
		Metadata   oMetadata    `json:"metadata"`
		Components []oComponent `json:"components"`
	}
	oComponent struct {
		UUID            string            `json:"uuid"`
		Type            string            `json:"type"`
		Title           string            `json:"title"`
		Description     string            `json:"description"`
		Props           []oProp           `json:"props"`
		Implementations []oImplementation `json:"control-implementations"`
	}
	oImplementation struct {
		UUID         string         `json:"uuid"`
		Source       string         `json:"source"`
		Description  string         `json:"description"`
		Requirements []oRequirement `json:"implemented-requirements"`
	}
	oRequirement struct {
		UUID        string  `json:"uuid"`
		ControlID   string  `json:"control-id"`
		Description string  `json:"description"`
		Props       []oProp `json:"props,omitempty"`
		Links       []oLink `json:"links,omitempty"`
	}
)

// uuid is the UUID of a thing by its name, which is its own for ever.
func uuid(parts ...string) string { return assurance.UUIDOf("evidence/" + strings.Join(parts, "/")) }
