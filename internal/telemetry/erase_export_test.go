package telemetry

// WithStep lets a test end the world between the steps of an erasure.
func (d EraseDeps) WithStep(step func(string) error) EraseDeps {
	d.step = step
	return d
}

// WithStep lets a test end the world between the steps of a hold.
func (d HoldDeps) WithStep(step func(string) error) HoldDeps {
	d.step = step
	return d
}
