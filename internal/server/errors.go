package server

import (
	"errors"

	"github.com/hawser-iot/hawser/internal/core"
)

// hintOf is what err's reader should do, if anyone knows.
func hintOf(err error) string {
	if e, ok := errors.AsType[*core.Error](err); ok {
		return e.Hint
	}
	return ""
}
