// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package provider

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// commandLine runs tofu in a directory with the provider's own program, which dev_overrides
// names.
type commandLine struct {
	t    *testing.T
	tofu string
	dir  string
}

func newCommandLine(t *testing.T, configuration string) *commandLine {
	t.Helper()
	c := &commandLine{t, tofu(t), t.TempDir()}
	programs, err := builtProvider()
	require.NoError(t, err)
	c.write("tofurc", fmt.Sprintf("provider_installation {\n  dev_overrides {\n    %q = %q\n  }\n  direct {}\n}\n", "vault-plugin-dek/dek", programs))
	c.write("main.tf", configuration)
	t.Setenv("TF_CLI_CONFIG_FILE", filepath.Join(c.dir, "tofurc"))
	return c
}

// builtProvider builds the provider's program and returns the directory that it is in.
// TestMain removes that.
var builtProvider = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "terraform-provider-dek-")
	if err != nil {
		return "", err
	}
	leftovers = append(leftovers, dir)
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, "terraform-provider-dek"), "../../cmd/terraform-provider-dek").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the provider: %w: %s", err, out)
	}
	return dir, nil
})

func (c *commandLine) write(name, content string) {
	c.t.Helper()
	require.NoError(c.t, os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o600))
}

// run returns what tofu says in one line, without what it draws around texts.
func (c *commandLine) run(status int, args ...string) string {
	c.t.Helper()
	cmd := exec.Command(c.tofu, slices.Insert(args, 1, "-no-color")...)
	cmd.Dir = c.dir
	out, err := cmd.CombinedOutput()
	require.Equal(c.t, status, cmd.ProcessState.ExitCode(), "%v: %s", err, out)
	return strings.Join(strings.Fields(strings.NewReplacer("│", " ", "╷", " ", "╵", " ").Replace(string(out))), " ")
}

// everything is the content of all files that tofu has left, plans unpacked.
func (c *commandLine) everything(but ...string) string {
	c.t.Helper()
	var all bytes.Buffer
	files, err := filepath.Glob(filepath.Join(c.dir, "*"))
	require.NoError(c.t, err)
	for _, file := range files {
		if slices.Contains(but, filepath.Base(file)) {
			continue
		}
		if packed, err := zip.OpenReader(file); err == nil {
			for _, part := range packed.File {
				if strings.HasPrefix(part.Name, "tfconfig/") {
					continue // the configuration itself
				}
				r, err := part.Open()
				require.NoError(c.t, err)
				_, err = io.Copy(&all, r) // #nosec G110 -- written by this test
				require.NoError(c.t, err)
				require.NoError(c.t, r.Close())
			}
			require.NoError(c.t, packed.Close())
			continue
		}
		content, err := os.ReadFile(file)
		require.NoError(c.t, err)
		all.Write(content)
	}
	return all.String()
}

// With the command and the provider's own program: what a user sees of a destruction, and
// that a credential is neither in a plan nor in the state.
func TestCommandLine(t *testing.T) {
	e := newEngine(t)
	o := e.newOwner()
	id := uuid.NewString()
	configuration := func(id string) string {
		return e.provider(o, "owner", o.token, "1", `"1m"`) + `
			resource "dek_tenant" "t" {
				tenant_id       = "` + id + `"
				deletion_window = "36h"
			}`
	}
	c := newCommandLine(t, configuration(id))
	c.run(2, "plan", "-detailed-exitcode", "-out=first.plan")
	require.Contains(t, c.run(0, "apply", "first.plan"), "timeout (1m0s) is half of lease (1m0s) or more", "the engine's warning")
	c.run(0, "plan", "-detailed-exitcode", "-out=second.plan")
	left := c.everything("main.tf")
	require.Contains(t, left, o.mount, "the parameters that are no credentials are there")
	require.NotContains(t, left, o.token)

	c.write("main.tf", configuration(uuid.NewString()))
	said := c.run(0, "plan")
	require.Contains(t, said, "Tenant "+id+" is going to be shredded", "a replacement is a destruction")
	c.write("main.tf", configuration(id))
	said = c.run(0, "plan", "-destroy")
	require.Contains(t, said, "Tenant "+id+" is going to be shredded")
	require.Contains(t, said, "after its deletion window (36h)")
	said = c.run(0, "destroy", "-auto-approve")
	require.Contains(t, said, "Tenant "+id+" is being deleted")
	require.Contains(t, said, "it can be restored until "+e.tenant(id).DeleteAfter.UTC().Format("2006-01-02T15:04:05Z"))
	require.Contains(t, said, "vault write -f "+e.mount+"/tenants/"+id+"/restore")
}
