// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
)

const backendHelp = `
Keeps the secrets of a service's tenants, each tenant's under a data-encryption
key (DEK) of its own, and rotates those keys: a rotation re-encrypts everything
that the tenant has here, in the background and without downtime, and destroys
the old key when nothing depends on it any more.
`

// helpColumns bounds a line of help: vault path-help prints what
// it is given.
const helpColumns = 80

// wrapHelp breaks the descriptions of paths into lines.
func wrapHelp(paths []*framework.Path) {
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
		case column+1+len(word) > helpColumns:
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
