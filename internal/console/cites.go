package console

import "github.com/hawser-iot/hawser/internal/assurance"

// cites is where other standards ask for the same as a control.
func cites(assurance.ControlID) []cite { return nil }
