package server

import (
	"github.com/hawser-iot/hawser/internal/check"
)

// checks are all that the program holds itself to, gathered from where each is
// known best.
func (s *server) checks() [][]check.Check {
	return [][]check.Check{
		s.doorChecks(),
		s.jobChecks(),
		s.evidenceChecks(),
		s.riskChecks(),
		s.peopleChecks(),
		s.founderChecks(),
		s.dataChecks(),
		s.devices.Checks(),
		s.identityChecks(),
		s.birthChecks(),
		s.strangerChecks(),
		s.unitChecks(),
		s.reviewChecks(),
		s.commandChecks(),
		s.settingChecks(),
		s.secondChecks(),
		s.surfaceChecks(),
		s.serviceChecks(),
		s.childChecks(),
		missingChecks(),
	}
}
