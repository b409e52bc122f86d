// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package api

import (
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
)

// HelpColumns bounds a line of help: vault path-help prints what
// it is given.
const HelpColumns = 80

// WrapHelp breaks the descriptions of paths into lines.
func WrapHelp(paths []*framework.Path) {
	for _, p := range paths {
		p.HelpDescription = inLines(p.HelpDescription)
	}
}

// inLines breaks a text between words.
func inLines(text string) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
		case column+1+len(word) > HelpColumns:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
