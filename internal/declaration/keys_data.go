package declaration

func fieldsShape() *shape {
	s := tableOf(1, MaxFields, fieldPattern, fieldShape())
	s.nameRule = ruleFieldName
	return s
}

func fieldShape() *shape {
	keys := []Key{
		{Name: "stream", Required: true, rule: ruleStream, Example: "stream: climate", Meaning: "The stream whose messages carry it.", shape: patternOf(ruleStream, namePattern, "the name of a stream")},
	}
	keys = append(keys, valueKeys()...)
	keys = append(
		keys,
		Key{Name: "precision", Default: "none", Unit: "that of the field", Example: "precision: 0.1", Meaning: "Finer readings are rounded to a multiple of it before they are stored.", shape: &shape{form: numberForm, rule: rulePrecision, lo: 1e-9, hi: 1e12}},
		Key{Name: "class", Required: true, rule: ruleClass, Example: "class: personal", Meaning: "How personal it is: public (says nothing about anybody), personal, sensitive (precise place, presence, habits at home), child, health.", shape: wordOf(ruleClass, classWords())},
		Key{Name: "purposes", Required: true, rule: rulePurpose, Example: "purposes: [service.control, service.history]", Meaning: "Why it is collected: a family (service, security, safety, support, research, improvement, legal, marketing), a dot and a word.", shape: purposesShape()},
		Key{Name: "keep", Required: true, rule: ruleKeep, Unit: "span, 1h to 10y, whole seconds", Example: "keep: 30d", Meaning: "How long it may be kept, counted from the time of the reading. Then its key is destroyed.", shape: spanOf(ruleKeep)},
		Key{Name: "readers", Required: true, rule: ruleReader, Example: "readers: [owner, support, service:app-backend]", Meaning: "Everybody who may read it: roles (owner, household; of the staff: support, engineering, security, operations, legal, marketing), service:NAME, share:NAME.", shape: listOf(ruleReader, 1, 16, patternOf(ruleReader, readerPattern(), "a role, service:NAME or share:NAME"))},
		Key{Name: "when_done", Required: true, rule: ruleEnd, Example: "when_done: shred", Meaning: "What happens when its time is over: shred, or aggregate(k=N, by=hour|day|week|month): counts and means over at least N devices stay.", shape: patternOf(ruleEnd, endPattern, "shred or aggregate(k=20, by=day)")},
		Key{Name: "protection", Default: "[]", Example: "protection: [no-staff, step-up]", Meaning: "What guards it beyond the sealing that every field has; at least one for sensitive, child and health. Held by the check: no-staff (no role of the staff reads it), no-shares (no share has it), coarse (a precision of at least a thousandth of its range). Held whenever somebody reads: step-up (a person proves a second factor anew), two-persons (a second person of the staff approves).", shape: listOf(ruleProtection, 1, 5, wordOf(ruleProtection, protections()))},
		Key{Name: "about", Example: `about: "How warm the room is."`, Meaning: "What it is, in plain words for the product's public page.", shape: textOf(1, 200, "what it is, 1 to 200 characters")},
	)
	conditions := append(
		valueConditions(),
		when{key: "type", is: []string{"boolean", "string", "enum", "timestamp"}, bars: []need{{"precision", rulePrecision}}},
		when{key: "class", is: []string{"sensitive", "child", "health"}, needs: []need{{"protection", ruleProtection}}},
		when{key: "class", is: []string{"public"}, bars: []need{{"protection", ruleProtection}}},
	)
	return &shape{form: objectForm, keys: keys, when: conditions}
}

func paramShape() *shape {
	return &shape{form: objectForm, keys: valueKeys(), when: valueConditions()}
}

// valueKeys bound one value, of a field or of a command.
func valueKeys() []Key {
	return []Key{
		{Name: "type", Required: true, rule: ruleFieldType, Example: "type: number", Meaning: "number, integer (within ±2^53), boolean, string, enum (one of its values) or timestamp (RFC 3339 text).", shape: wordOf(ruleFieldType, typeWords(), refused{"media", ruleMedia, "the type media is reserved: sound and pictures are not supported yet", "leave the field out until they are"})},
		{Name: "unit", Unit: "SenML or UCUM", Example: "unit: Cel", Meaning: "Unit of a number or integer; `1` for counts.", shape: patternOf(ruleUnit, unitPattern, "a SenML or UCUM unit such as Cel")},
		{Name: "range", Unit: "that of the value", Example: "range: [-40, 85]", Meaning: "Least and most value of a number or integer, both included.", shape: &shape{form: listForm, rule: ruleRange, least: 2, most: 2, want: "two numbers such as [-40, 85]", item: &shape{form: numberForm, rule: ruleRange, lo: -1e300, hi: 1e300}}},
		{Name: "values", Example: "values: [idle, heating, fault]", Meaning: "The values of an enum.", shape: listOf(ruleValues, 2, 64, &shape{form: textForm, rule: ruleValues, least: 1, most: 64, want: "text of 1 to 64 characters"})},
		{Name: "min_length", Default: "0", Unit: "characters", Example: "min_length: 1", Meaning: "Shortest text of a string.", shape: wholeOf(ruleLength, 0, 8192)},
		{Name: "max_length", Unit: "characters, 1 to 8192", Example: "max_length: 40", Meaning: "Longest text of a string.", shape: wholeOf(ruleLength, 1, 8192)},
	}
}

func valueConditions() []when {
	return []when{
		{
			key: "type", is: []string{"number", "integer"},
			needs: []need{{"unit", ruleUnit}, {"range", ruleRange}},
			bars:  []need{{"values", ruleValues}, {"min_length", ruleLength}, {"max_length", ruleLength}},
		},
		{
			key: "type", is: []string{"enum"}, needs: []need{{"values", ruleValues}},
			bars: []need{{"unit", ruleUnit}, {"range", ruleRange}, {"min_length", ruleLength}, {"max_length", ruleLength}},
		},
		{
			key: "type", is: []string{"string"}, needs: []need{{"max_length", ruleLength}},
			bars: []need{{"unit", ruleUnit}, {"range", ruleRange}, {"values", ruleValues}},
		},
		{
			key: "type", is: []string{"boolean", "timestamp"},
			bars: []need{{"unit", ruleUnit}, {"range", ruleRange}, {"values", ruleValues}, {"min_length", ruleLength}, {"max_length", ruleLength}},
		},
	}
}
