package assurance

// rowGroups are the rows of the mission, group by group. The words of the mission
// are the maker's of this program; the guide itself is a work of the US government.
func rowGroups() [][]Row {
	return [][]Row{framing(), design(), practice(), authentication(), data(), monitoring(), culture(), communication(), closing()}
}
