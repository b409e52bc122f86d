// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package softhsmtest makes tokens of SoftHSM 2 for tests, and does with them what their
// owner does: with softhsm2-util, and OpenSC's pkcs11-tool.
package softhsmtest

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/compatibility"
)

// modules are where the library is on Debian, Fedora and macOS.
var modules = []string{
	"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

// Label is that of every token.
const Label = "dek-test"

// Token is a token of SoftHSM in a directory of its own. Its methods fail the test.
type Token struct {
	t      testing.TB
	Module string // the library
	PIN    string // the user's
	dir    string
	soPIN  string
}

// module returns the library, empty where SoftHSM or pkcs11-tool is missing.
func module() string {
	_, noUtil := exec.LookPath("softhsm2-util")
	_, noTool := exec.LookPath("pkcs11-tool")
	if noUtil != nil || noTool != nil {
		return ""
	}
	for _, path := range modules {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// Available reports whether tokens can be made.
func Available() bool { return module() != "" }

// New makes an empty token, which goes with the test. Where SoftHSM or pkcs11-tool is
// missing the test is skipped, and fails under CI=true: scripts/softhsm.sh installs them.
func New(t testing.TB) *Token {
	t.Helper()
	k := &Token{t: t, Module: module(), PIN: rand.Text()[:12], soPIN: rand.Text()[:12]}
	if k.Module == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no softhsm2 or no opensc")
		}
		t.Skip("there is no softhsm2 or no opensc: scripts/softhsm.sh installs them; this test did not run")
	}
	version, err := exec.Command("softhsm2-util", "--version").Output()
	require.NoError(t, err)
	compatibility.Ran(t, "SoftHSM", compatibility.VersionIn(version), false)
	k.dir = t.TempDir()
	require.NoError(t, os.Mkdir(k.tokens(), 0o700))
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", k.tokens())
	require.NoError(t, os.WriteFile(k.conf(), []byte(conf), 0o600))
	k.run("softhsm2-util", "--init-token", "--free", "--label", Label, "--pin", k.PIN, "--so-pin", k.soPIN)
	return k
}

func (k *Token) tokens() string { return filepath.Join(k.dir, "tokens") }

func (k *Token) conf() string { return filepath.Join(k.dir, "softhsm2.conf") }

// Env returns what a process needs in its environment to find the token.
func (k *Token) Env() string { return "SOFTHSM2_CONF=" + k.conf() }

// run runs a program. It says nothing of what it was called with, which has the PIN.
func (k *Token) run(name string, args ...string) {
	k.t.Helper()
	cmd := exec.Command(name, args...) // #nosec G204 -- the programs are named here
	cmd.Env = append(os.Environ(), k.Env(), "SOFTHSM_PIN="+k.PIN)
	out, err := cmd.CombinedOutput()
	require.NoError(k.t, err, "%s: %s", name, out)
}

func (k *Token) tool(args ...string) {
	k.t.Helper()
	k.run("pkcs11-tool", append([]string{"--module", k.Module, "--token-label", Label, "--login", "--pin", "env:SOFTHSM_PIN"}, args...)...)
}

// Generate makes an AES key with an ID, in hexadecimal.
func (k *Token) Generate(label, id string) {
	k.t.Helper()
	k.tool("--keygen", "--key-type", "AES:32", "--label", label, "--id", id, "--sensitive", "--private")
}

// Destroy deletes a key.
func (k *Token) Destroy(label, id string) {
	k.t.Helper()
	k.tool("--delete-object", "--type", "secrkey", "--label", label, "--id", id)
}

// Import puts a key onto the token, such as one that Destroy has taken from it.
func (k *Token) Import(label, id string, key []byte) {
	k.t.Helper()
	file := filepath.Join(k.dir, "key")
	require.NoError(k.t, os.WriteFile(file, key, 0o600))
	// What softhsm2-util imports does not take AES-GCM.
	k.tool("--write-object", file, "--type", "secrkey", "--key-type", "AES:32", "--label", label, "--id", id, "--sensitive", "--private")
	require.NoError(k.t, os.Remove(file))
}

// SetPIN gives the user another PIN, and returns it.
func (k *Token) SetPIN() string {
	k.t.Helper()
	pin := rand.Text()[:12]
	k.tool("--change-pin", "--new-pin", pin)
	k.PIN = pin
	return pin
}

// Remove takes the token away, and Insert brings it back.
func (k *Token) Remove() {
	k.t.Helper()
	require.NoError(k.t, os.Rename(k.tokens(), k.tokens()+".removed"))
	require.NoError(k.t, os.Mkdir(k.tokens(), 0o700))
}

// Insert brings the token back that Remove has taken away.
func (k *Token) Insert() {
	k.t.Helper()
	require.NoError(k.t, os.Remove(k.tokens()))
	require.NoError(k.t, os.Rename(k.tokens()+".removed", k.tokens()))
}
