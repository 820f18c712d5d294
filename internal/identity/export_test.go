package identity

import (
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// VerifyCode compares a code and nothing else.
func (s *Service) VerifyCode(t *gate.Ticket, id core.DeviceID, code string) error {
	_, _, err := s.verifyCode(t, id, code)
	return err
}
