// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// auditClear is what the audit log has in clear, all of it. docs/audit.md says
// why, and names every place.
var auditClear = []string{
	"after in request.request_uri",
	"boolean in request.data.data.marked_boolean",
	"boolean in request.data.items[].data.marked_boolean",
	"boolean in response.data.data.marked_boolean",
	"email in auth.metadata.email",
	"email in response.auth.metadata.email",
	"field in a key of request.data.data",
	"field in a key of request.data.data.nested.list[]",
	"field in a key of request.data.items[].data",
	"field in a key of request.data.items[].data.nested.list[]",
	"field in a key of response.data.data",
	"field in a key of response.data.data.nested.list[]",
	"field in a key of response.data.subkeys",
	"metadata key in a key of request.data.custom_metadata",
	"metadata key in a key of request.data.items[].metadata",
	"metadata key in a key of request.data.metadata",
	"metadata key in a key of response.data.custom_metadata",
	"metadata key in a key of response.data.metadata",
	"metadata key in a key of response.data.metadata.custom_metadata",
	"name in request.path",
	"name in request.request_uri",
	"number in response.data.data.nested.list[]",
	"number in response.data.data.pin",
	"path outside the mount in request.path",
	"person's name in auth.metadata.name",
	"person's name in response.auth.metadata.name",
	"setting of another type in request.request_uri",
	"sub in auth.display_name",
	"sub in response.auth.display_name",
	"unknown field in a key of request.data",
	"unknown field in response.warnings[]",
	"unknown username in request.path",
	"username in auth.display_name",
	"username in auth.metadata.username",
	"username in request.path",
	"username in response.auth.display_name",
	"username in response.auth.metadata.username",
}

// filesClear is what the other files have, and errorsClear the bodies of errors.
// docs/audit.md says where from.
var (
	filesClear = []string{
		"email in vault.log at debug",
		"name in vault.log at trace",
		"person's name in vault.log at debug",
		"sub in vault.log at debug",
		"username in raft.db",
		"username in state.bin",
		"username in vault.db",
		"username in vault.log at debug",
	}
	errorsClear = []string{
		"path outside the mount in an error of Vault",
	}
)

// leaks writes what must not be found again, and remembers it.
type leaks struct {
	t *testing.T
	s *devstack.Stack
	markers
	errors []errorBody
}

// errorBody is the answer to a request that was refused, or failed.
type errorBody struct {
	from string // "Vault" or "the proxy"
	raw  []byte
}

// TestNothingLeaks runs everything there is on a Vault at log level trace with
// an audit log, with secrets that are recognized: writes, rotations, deletions,
// every error, crashes. Then it looks for them in raft's files, a snapshot, the
// logs of Vault, plugin and proxy, the audit log, and all bodies of errors.
func TestNothingLeaks(t *testing.T) {
	dir := t.TempDir()
	s := start(t, devstack.Options{Storage: devstack.Raft, DataDir: dir, LogLevel: "trace", RawStorage: true})
	l := &leaks{t: t, s: s, markers: markers{}}
	audit := filepath.Join(dir, "audit.log")
	l.vault("PUT", "sys/audit/file", map[string]any{"type": "file", "options": map[string]any{"file_path": audit}})
	l.known(dir)

	tenant := l.tenant()
	l.items(tenant)
	l.encryption(tenant)
	l.rotations(tenant)
	l.imports(tenant)
	l.people(tenant)
	l.mistakes(tenant)
	l.damage()
	l.deletion()
	snapshot := l.snapshot()
	l.trouble(tenant)
	require.NoError(t, s.Stop())

	l.searchFiles(dir, snapshot)
	l.searchAudit(audit)
	l.searchErrors()
}

// searchFiles finds nothing that docs/audit.md does not have.
func (l *leaks) searchFiles(dir string, snapshot []byte) {
	files, err := unpacked(snapshot)
	require.NoError(l.t, err)
	require.NotEmpty(l.t, files["state.bin"], "the snapshot holds Vault's storage")
	l.raftFiles(dir, files)
	for _, name := range []string{"vault.log", "proxy.log", "bootstrap.log"} {
		files[name], err = os.ReadFile(filepath.Join(dir, name))
		require.NoError(l.t, err)
		require.NotEmpty(l.t, files[name])
	}
	for line := range bytes.Lines(files["vault.log"]) {
		level := "vault.log at info"
		if bytes.Contains(line, []byte("[TRACE]")) {
			level = "vault.log at trace"
		} else if bytes.Contains(line, []byte("[DEBUG]")) {
			level = "vault.log at debug"
		}
		files[level] = append(files[level], line...)
	}
	delete(files, "vault.log")
	require.NotEmpty(l.t, files["vault.log at trace"])
	hits := found{}
	all := l.index()
	for name, content := range files {
		all.search(name, content, hits)
	}
	l.nothingBeside(filesClear, hits)
}

// nothingBeside requires that what was found is what docs/audit.md has, all of it. It was
// measured on Vault: on OpenBao there must be no more. OpenBao's audit log has no
// request_uri, and its own log has other lines.
func (l *leaks) nothingBeside(documented []string, hits found) {
	l.t.Helper()
	if isOpenBao(l.t, l.s) {
		assert.Subset(l.t, documented, hits.list())
		return
	}
	assert.Equal(l.t, documented, hits.list())
}

// raftFiles adds all that raft keeps on disk, by name: those of one name together.
func (l *leaks) raftFiles(dir string, files map[string][]byte) {
	err := filepath.WalkDir(filepath.Join(dir, "raft"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		files[entry.Name()] = append(files[entry.Name()], content...)
		return err
	})
	require.NoError(l.t, err)
	require.NotEmpty(l.t, files["vault.db"])
	require.NotEmpty(l.t, files["raft.db"])
}

// searchAudit finds in the audit log what docs/audit.md lists.
func (l *leaks) searchAudit(path string) {
	content, err := os.ReadFile(path)
	require.NoError(l.t, err)
	hits := found{}
	all := l.index()
	for line := range bytes.Lines(content) {
		require.NoError(l.t, all.searchJSON(line, hits))
	}
	l.nothingBeside(auditClear, hits)
	l.documented()
}

// documented requires that docs/audit.md names every place in the audit log.
func (l *leaks) documented() {
	root, err := devstack.RepoRoot()
	require.NoError(l.t, err)
	document, err := os.ReadFile(filepath.Join(root, "docs", "audit.md"))
	require.NoError(l.t, err)
	for _, hit := range auditClear {
		_, place, _ := strings.Cut(hit, " in ")
		place = strings.TrimPrefix(place, "a key of ")
		for _, below := range []string{".nested", ".pin", "." + markedBoolean} {
			place, _, _ = strings.Cut(place, below) // of this test's items
		}
		assert.True(l.t, strings.Contains(string(document), "`"+place+"`"), "docs/audit.md does not have %s", place)
	}
}

func (l *leaks) searchErrors() {
	hits := found{}
	all := l.index()
	for _, e := range l.errors {
		all.search("an error of "+e.from, e.raw, hits)
	}
	assert.Equal(l.t, errorsClear, hits.list())
}
