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
		childCommands(),
		legacyCommands(),
		serviceCommands(),
		factoryCommands(),
		authorityCommands(),
		certifyCommands(),
		kitCommands(),
		reviewCommands(),
		dataCommands(),
		peopleCommands(),
		tellCommands(),
		settingCommands(),
		checkCommands(),
		probeCommands(),
		waiverCommands(),
		evidenceCommands(),
		sampleCommands(),
		witnessCommands(),
		ledgerCommands(),
		backupCommands(),
		migrateCommands(),
		configCommands(),
		clockCommands(),
		[]*command{versionCommand()},
	)
}
