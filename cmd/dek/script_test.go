// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/client/clienttest"
)

const (
	tenantID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	otherID  = "0b0e5c1e-52a5-4a9b-9f0e-6f4d7a5c2b11"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dek": main})
}

// The command line, as scripts: each has an engine of its own, with two tenants.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			engine := clienttest.New()
			engine.CreateTenant(tenantID)
			engine.CreateTenant(otherID)
			server := httptest.NewServer(engine)
			env.Defer(server.Close)
			env.Values["engine"] = engine
			env.Setenv("VAULT_ADDR", server.URL)
			env.Setenv("VAULT_TOKEN", "token")
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TENANT", tenantID)
			env.Setenv("OTHER", otherID)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"engine": engineCommand, "seal": sealCommand, "flip": flipCommand, "exits": exitsCommand,
		},
	})
}

// engineCommand does something to the engine: rotate or cancel TENANT, destroy
// TENANT VERSION, delete TENANT.
func engineCommand(ts *testscript.TestScript, _ bool, args []string) {
	e, _ := ts.Value("engine").(*clienttest.Engine)
	switch args[0] {
	case "rotate":
		e.Rotate(args[1])
	case "destroy":
		version, err := strconv.Atoi(args[2])
		ts.Check(err)
		e.DestroyVersion(args[1], version)
	case "delete":
		e.DeleteTenant(args[1])
	default:
		ts.Fatalf("engine %s: no such thing", args[0])
	}
}

// sealCommand sets a variable to an envelope: seal NAME TENANT PLAINTEXT AD.
func sealCommand(ts *testscript.TestScript, _ bool, args []string) {
	e, _ := ts.Value("engine").(*clienttest.Engine)
	aead, err := aeadOf(e, args[1])
	ts.Check(err)
	text, err := aead.Encrypt([]byte(args[2]), []byte(args[3]))
	ts.Check(err)
	ts.Check(aead.Close())
	ts.Setenv(args[0], string(text))
}

func aeadOf(e *clienttest.Engine, id string) (*client.AEAD, error) {
	vault, err := e.Vault()
	if err != nil {
		return nil, err
	}
	return aeadBy(vault, id)
}

func aeadBy(vault *api.Client, id string) (*client.AEAD, error) {
	c, err := client.New(vault)
	if err != nil {
		return nil, err
	}
	tenant, err := c.Tenant(id)
	if err != nil {
		return nil, err
	}
	return tenant.AEAD(), nil
}

// flipCommand changes a bit: flip FILE OFFSET, from the end if below 0.
func flipCommand(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	content, err := os.ReadFile(path)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(content)
	}
	content[at] ^= 1
	ts.Check(os.WriteFile(path, content, 0o600))
}

// exitsCommand runs dek and looks at its exit code: exits CODE ARGUMENT...
func exitsCommand(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("dek", args[1:]...)
	got := 0
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("dek: %v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("dek %v ended with %d, not with %d", args[1:], got, want)
	}
}

// A signal ends the command without a half-written output.
func TestInterrupted(t *testing.T) {
	_, dir := inMemory(t)
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGUSR1)
	defer stop()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	done := make(chan int)
	go func() {
		done <- run(ctx, []string{"encrypt", "--tenant", tenantID, "--output", filepath.Join(dir, "out"), "-"}, r, os.Stdout, os.Stderr)
	}()
	if _, err := fmt.Fprintln(w, "beginning"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if code := <-done; code != exitFailed {
		t.Errorf("ended with %d", code)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
