// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/syncbuf"
)

// HeaderLength is how long the clear header of a page is: docs/formats.md.
const HeaderLength = 17

// Logged is what an engine logs, at Vault's usual level.
type Logged struct{ text syncbuf.Buffer }

// Logger returns a logger that keeps its lines in l.
func (l *Logged) Logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: &l.text})
}

// Lines are those that contain a text.
func (l *Logged) Lines(text string) (found []string) {
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// WithForeignEntry is an oracle of a tenant among whose pages lies an entry that is none, so
// that they can neither be listed nor counted.
func WithForeignEntry(t *testing.T) *Oracle {
	t.Helper()
	w := NewOracle(NewMount(t))
	w.Create()
	w.Put("a", "1")
	inc := w.Record().Incarnation
	w.Close()
	w.Disk.Set("pages/"+inc+"/junk", []byte("x"))
	return w.On(OpenMount(t, w.Disk, 0, storagetest.None))
}
