// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"crypto/rand"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/softhsmtest"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/syncbuf"
)

// pkcs11Program is where dek-kms-pkcs11 is, if it is built.
func pkcs11Program(t *testing.T) (path string, built bool) {
	t.Helper()
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	path = filepath.Join(root, "bin", "dek-kms-pkcs11")
	_, err = os.Stat(path)
	return path, err == nil
}

// servePKCS11 starts dek-kms-pkcs11 for the keys of a label on a token, until the test ends,
// and returns its socket.
func servePKCS11(t *testing.T, hsm *softhsmtest.Token, label string) (socket string) {
	t.Helper()
	program, built := pkcs11Program(t)
	if !built && os.Getenv("CI") != "true" {
		t.Skip("dek-kms-pkcs11 is not built: make pkcs11 does that; this test did not run")
	}
	dir, err := os.MkdirTemp(sharedSockets, "owner-")
	require.NoError(t, err)
	pin := filepath.Join(dir, "pin")
	require.NoError(t, os.WriteFile(pin, []byte(hsm.PIN), 0o600))
	socket = filepath.Join(dir, "kms.sock")
	cmd := exec.Command(program, "-socket", socket, "-module", hsm.Module, "-token-label", softhsmtest.Label,
		"-key-label", label, "-pin-file", pin)
	cmd.Env = append(os.Environ(), hsm.Env())
	log := new(syncbuf.Buffer)
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	require.Eventually(t, func() bool {
		_, err := os.Lstat(socket)
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	return socket
}

// TestPKCS11 has one tenant's keys under a key on a PKCS#11 token, by way of dek-kms-pkcs11.
// The token's owner rotates the key, deletes it, and brings it back.
func TestPKCS11(t *testing.T) {
	t.Parallel() // it waits for leases
	hsm := softhsmtest.New(t)
	s := shared(t)
	socket := servePKCS11(t, hsm, "dek")
	mount := withMount(t, s)
	f := newCrowd(t, s, mount, 3)
	provider := mount + "/providers/hsm"
	body := map[string]any{"type": "kmsv2", "socket": socket, "lease": "10s", "timeout": "4s", "tenants": []string{f.ids[0]}}
	refused(t, callRoot(t, s, http.MethodPut, provider, body), http.StatusBadRequest, "NotFound", "-key-label")
	hsm.Generate("dek", "01")
	succeeded(t, callRoot(t, s, http.MethodPut, provider, body))
	move := func(under string) {
		t.Helper()
		succeeded(t, f.call(t, 0, http.MethodPut, "/kek/rotate", map[string]any{"provider": under}))
		var kek map[string]any
		require.Eventually(t, func() bool {
			kek = succeeded(t, f.call(t, 0, http.MethodGet, "/kek", nil))
			return kek["status"] == "completed"
		}, time.Minute, 50*time.Millisecond)
		require.Equal(t, []any{under, 0.0}, []any{kek["provider"], kek["keys_failed"]})
	}
	move("hsm")
	f.opens(t)

	second := make([]byte, 32)
	_, _ = rand.Read(second)
	hsm.Import("dek", "02", second)
	move("hsm") // under the second key
	hsm.Destroy("dek", "01")
	hsm.Destroy("dek", "02")
	withdrawn := time.Now()
	var last time.Time // when the last read was begun that was answered otherwise
	require.Eventually(t, func() bool {
		began := time.Now()
		if f.call(t, 0, http.MethodGet, "/secrets/own", nil).Status == http.StatusFailedDependency {
			return true
		}
		last = began
		return false
	}, time.Minute, 100*time.Millisecond)
	assert.Less(t, last.Sub(withdrawn), 11*time.Second, "a lease and a second")
	refused(t, f.call(t, 0, http.MethodPut, "/encrypt", map[string]any{"plaintext": "eA=="}), http.StatusFailedDependency, "hsm")
	refused(t, f.call(t, 0, http.MethodPut, "/dek/rotate", nil), http.StatusFailedDependency, "hsm")
	for i := 1; i < len(f.ids); i++ {
		succeeded(t, f.call(t, i, http.MethodGet, "/secrets/own", nil))
		succeeded(t, f.call(t, i, http.MethodPut, "/dek/rotate", nil))
	}
	assert.Equal(t, "denied", succeeded(t, callRoot(t, s, http.MethodGet, provider, nil))["state"])

	hsm.Import("dek", "02", second) // the first is not needed any more
	require.Eventually(t, func() bool { return f.call(t, 0, http.MethodGet, "/secrets/own", nil).Status == http.StatusOK },
		time.Minute, 100*time.Millisecond)
	f.opens(t)
	move("")
	f.opens(t)
}
