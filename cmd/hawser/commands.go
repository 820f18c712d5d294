package main

import "slices"

// commands is the whole command line, in the order in which a newcomer needs it.
func commands() []*command {
	return slices.Concat(
		demoCommands(),
		serveCommands(),
		observeCommands(),
		simulateCommands(),
		declarationCommands(),
		deviceCommands(),
		certifyCommands(),
		kitCommands(),
		reviewCommands(),
		dataCommands(),
		peopleCommands(),
		tellCommands(),
		checkCommands(),
		probeCommands(),
		waiverCommands(),
		evidenceCommands(),
		sampleCommands(),
		witnessCommands(),
		ledgerCommands(),
		backupCommands(),
		configCommands(),
		clockCommands(),
		[]*command{versionCommand()},
	)
}
