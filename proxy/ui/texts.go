// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	_ "embed"
	"strings"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

//go:embed texts.txt
var textFile string

// texts are all that the page says, by name.
var texts = parseTexts(textFile)

func parseTexts(file string) map[string]string {
	byName := map[string]string{}
	for line := range strings.Lines(file) {
		name, text, ok := strings.Cut(strings.TrimRight(line, "\n"), " = ")
		if ok && !strings.HasPrefix(line, "#") {
			byName[name] = text
		}
	}
	return byName
}

// text returns a text by its name, with the arguments put in. A name that has no text
// is shown as it is; a test finds it before.
func text(name string, args ...any) string {
	found, ok := texts[name]
	if !ok {
		return name
	}
	if len(args) == 0 {
		return found
	}
	return english.Sprintf(found, args...)
}

// english writes numbers as 1,000,000.
var english = message.NewPrinter(language.English)

// number is a number that is not part of a text.
func number(n int64) string { return english.Sprintf("%d", n) }

// word is a word of the engine's, such as in_progress, for people.
func word(s string) string {
	if found, ok := texts["word."+s]; ok {
		return found
	}
	return strings.ReplaceAll(s, "_", " ")
}
