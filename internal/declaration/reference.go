package declaration

import (
	"fmt"
	"strings"
)

// Reference is docs/declaration.md: every key and every rule, from the tables
// that Parse works by.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# The declaration

<!-- Made by ` + "`go test ./internal/declaration -run Reference -update`" + ` from internal/declaration; do not edit. -->

One YAML file per product says what it collects, who may read it, how long it is kept, what it talks to, how it is updated and until when. Hawser enforces it, publishes it and proves it. ` + "`examples/`" + ` holds whole ones.

- ` + "`hawser declaration check FILE`" + ` shows every fault at once: place, rule, what is wrong and what to write instead.
- ` + "`hawser declaration schema`" + ` prints the JSON Schema 2020-12 by which editors complete and explain keys; it also stands beside this page. Point your editor at it with a first line ` + "`# yaml-language-server: $schema=declaration.schema.json`" + `.
- ` + "`hawser declaration diff OLD NEW`" + ` says what a new version widens and what it narrows.
- ` + "`hawser declaration publish FILE`" + ` puts a version in force.

What is not declared is not collected, not readable, not reachable. A published version is stored for ever as canonical JSON (RFC 8785); its SHA-256 stands on every reading and ledger entry that was made under it.

## YAML

The file is UTF-8, at most 256 KB, one document of plain maps, lists and values, nested at most 12 deep. Anchors, aliases, merges, tags and directives are refused. Numbers are written as JSON writes them.

- A **span** is one whole number and one unit: ` + "`ms` `s` `m` `h` `d` `w` `y`" + ` (a year is 365 days): ` + "`30d`, `90m`" + `.
- A **date** is ` + "`YYYY-MM-DD`" + `; it includes that day, in UTC.
- A **name** is 1 to 63 lower-case letters, digits, ` + "`_` and `-`" + `, a letter first.

## Keys

`)
	referenceKeys(&b, language(), "")
	b.WriteString("## What acts on it\n\nStreams, fields, identity, the support date, hubs, the door for old devices and commands that are not risky are acted on by the gateway, the store and the keyring. Risky commands, shares, services, protections at reading, aggregates, update deadlines and settings are checked, versioned and published; where nothing serves them yet, nothing is given: no risky command is given, nothing is set on a device, no slice leaves, and what would be aggregated is shredded.\n\n")
	b.WriteString("## Roles, purposes, classes, protections\n\n")
	fmt.Fprintf(&b, "- Roles of the people around a device: %s. Roles of the maker's staff: %s.\n", code(peopleRoles()), code(staffRoles()))
	b.WriteString("- A purpose is a family and a word, `service.control`. Families: `service` (what the owner bought it for), `security`, `safety`, `support`, `research`, `improvement` (of the product), `legal`, `marketing`. Security and marketing never meet in one field or one keep-time.\n")
	fmt.Fprintf(&b, "- Classes, each asking for more than the one before: %s.\n", code(classWords()))
	b.WriteString("- The fields of one class, one set of readers and one keep-time are one group, sealed together: at most 32 groups.\n")
	b.WriteString("- Readings are destroyed in epochs: the largest of 5 m, 1 h, 6 h, 1 d, 7 d and 30 d that is at most a tenth of the keep-time. Nothing is kept longer than declared; some readings are kept up to one epoch shorter.\n\n")
	b.WriteString("## How strictly\n\nWhat is reasonable depends on four factors (row 0.1): what the product is for, which data and how much of it, with whom it is shared, how much harm is how likely. From them follows a level, basic, raised or high, which is recorded with every published version. Points: harm medium 1, high 5; personal data 1, sensitive 2, child or health 5; a message a minute or more about people 1; shares of what is not public 1; worn or in public 1; audience mixed 1, child 2. Three points make it raised, five high.\n\n")
	b.WriteString("## What widens, what narrows\n\n")
	b.WriteString("A version **widens** when it takes more from the people whom data is about, or opens something: a new field, another class, a finer precision, a wider range, more values, longer text, a higher rate, a new purpose, reader, service or share, a longer keep-time, an aggregate that stays, less protection, a new command, setting, interface, destination or Wi-Fi kind, older TLS, slower or manual updates, a longer certificate life, an earlier end of support, children of a hub, the legacy door. The opposite **narrows**. What cannot be weighed (another type, unit or authentication) counts as widening. On a live installation a widening version opens a review and waits until an approver, not the one who asked, says yes in the console; a product's first version widens nothing.\n\n")
	b.WriteString("## Rules\n\n")
	part := ""
	for _, r := range Rules() {
		if r.Part != part {
			part = r.Part
			fmt.Fprintf(&b, "### %s\n\n", heading(part))
		}
		fmt.Fprintf(&b, "- **`%s`** %s", r.ID, r.Asks)
		if r.Why != "" {
			fmt.Fprintf(&b, " *%s*", r.Why)
		}
		fmt.Fprintf(&b, " Fix: %s", r.Fix)
		if len(r.Rows) > 0 {
			fmt.Fprintf(&b, " (rows %s)", strings.Join(r.Rows, ", "))
		}
		b.WriteString("\n")
		if last := r.ID == lastOf(part); last {
			b.WriteString("\n")
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func lastOf(part string) string {
	id := ""
	for _, r := range Rules() {
		if r.Part == part {
			id = r.ID
		}
	}
	return id
}

func heading(part string) string {
	switch part {
	case "file":
		return "Of the file"
	case "publish":
		return "Of publishing"
	}
	return "Of `" + part + "`"
}

func code(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }

// referenceKeys writes one table per object, then those of the objects in it.
func referenceKeys(b *strings.Builder, s *shape, path string) {
	if path != "" {
		fmt.Fprintf(b, "### `%s`\n\n", path)
	}
	b.WriteString("| key | | meaning | unit | default | example |\n|---|---|---|---|---|---|\n")
	for _, k := range s.keys {
		need := "optional"
		if k.Required {
			need = "required"
		}
		for _, w := range s.when {
			for _, n := range w.needs {
				if n.key == k.Name {
					need = "required with some values of `" + w.key + "`"
				}
			}
		}
		meaning := k.Meaning
		if words := wordsOf(k.shape); words != "" {
			meaning += " One of " + words + "."
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s | %s |\n", k.Name, need, cell(meaning), cell(k.Unit), cell(k.Default), "`"+cell(k.Example)+"`")
	}
	b.WriteString("\n")
	for _, k := range s.keys {
		name := k.Name
		if path != "" {
			name = path + "." + name
		}
		inner := k.shape
		switch inner.form {
		case tableForm:
			inner, name = inner.item, name+".NAME"
		case listForm:
			inner, name = inner.item, name+"[]"
		default:
		}
		if inner.form == objectForm {
			referenceKeys(b, inner, name)
		}
	}
}

func wordsOf(s *shape) string {
	switch s.form {
	case wordForm:
		return code(s.words)
	case listForm:
		if s.item.form == wordForm {
			return code(s.item.words)
		}
	default:
	}
	return ""
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
