// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package provider

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/compatibility"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

var (
	once     sync.Once
	shared   *devstack.Stack
	errStart error

	leftovers []string // directories that the tests share
)

func TestMain(m *testing.M) {
	code := m.Run()
	if shared != nil {
		if code != 0 {
			fmt.Println("the end of Vault's log:\n" + shared.LogTail("vault"))
		}
		if err := shared.Stop(); err != nil {
			fmt.Println("stop the stack:", err)
			code = 1
		}
	}
	for _, dir := range leftovers {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// tofu finds OpenTofu: TOFU_BIN, bin/tofu, the PATH.
func tofu(t *testing.T) string {
	t.Helper()
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	for _, name := range []string{os.Getenv("TOFU_BIN"), filepath.Join(root, "bin", "tofu"), "tofu"} {
		if file, err := exec.LookPath(name); err == nil {
			file, err = filepath.Abs(file)
			require.NoError(t, err)
			return file
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("there is no OpenTofu: scripts/opentofu.sh builds one")
	}
	t.Skip("there is no OpenTofu: scripts/opentofu.sh builds one, or set TOFU_BIN")
	return ""
}

// engine is a mount of a test's own on the Vault that the tests share.
type engine struct {
	t     *testing.T
	vault *api.Client
	mount string
	*client.Client
}

// newEngine mounts the engine, and has OpenTofu run the provider of this package.
func newEngine(t *testing.T) *engine {
	t.Helper()
	program := tofu(t)
	about, err := exec.CommandContext(t.Context(), program, "version").Output()
	require.NoError(t, err)
	compatibility.Ran(t, "OpenTofu", compatibility.VersionIn(about), false)
	for _, kv := range os.Environ() { // the user's settings of OpenTofu
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "TF_") {
			t.Setenv(name, "")
			require.NoError(t, os.Unsetenv(name))
		}
	}
	for name, value := range map[string]string{
		"TF_ACC": "1", "TF_ACC_TERRAFORM_PATH": program, "TF_ACC_PROVIDER_HOST": "registry.opentofu.org",
		"TF_ACC_PROVIDER_NAMESPACE": "vault-plugin-dek", "TF_CLI_CONFIG_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	once.Do(func() { shared, errStart = devstack.Start(context.Background(), devstack.Options{NoProxy: true}) })
	require.NoError(t, errStart)
	own := "dek-" + uuid.NewString()[:8]
	e := &engine{t: t, vault: shared.Client(), mount: own}
	require.NoError(t, e.vault.Sys().Mount(own, &api.MountInput{Type: "vault-plugin-dek"}))
	t.Cleanup(func() { require.NoError(t, e.vault.Sys().Unmount(own)) })
	e.Client, err = client.New(e.vault, client.WithMount(e.mount))
	require.NoError(t, err)
	return e
}

// try runs steps, and at the end destroys what is left.
func (e *engine) try(steps ...resource.TestStep) {
	e.t.Helper()
	resource.Test(e.t, resource.TestCase{
		ProtoV6ProviderFactories: map[string]func() (tfprotov6.ProviderServer, error){"dek": providerserver.NewProtocol6WithError(New())},
		Steps:                    steps,
	})
}

// config is a configuration: the provider for the test's mount, and body, in which %s are
// args.
func (e *engine) config(body string, args ...any) string {
	return e.as(shared.RootToken(), body, args...)
}

// as is a configuration for another token.
func (e *engine) as(token, body string, args ...any) string {
	return "terraform {\n  required_providers {\n    dek = { source = \"vault-plugin-dek/dek\" }\n  }\n}\n" + fmt.Sprintf("provider \"dek\" {\n  address = %q\n  token = %q\n  mount = %q\n}\n", shared.VaultAddr(), token, e.mount) + fmt.Sprintf(body, args...)
}

// write writes to a path below the mount, past the provider.
func (e *engine) write(path string, data map[string]any) {
	e.t.Helper()
	_, err := e.vault.Logical().WriteWithContext(e.t.Context(), e.mount+"/"+path, data)
	require.NoError(e.t, err)
}

// tenant reads a tenant past the provider.
func (e *engine) tenant(id string) *client.TenantInfo {
	e.t.Helper()
	t, err := e.Tenant(id)
	require.NoError(e.t, err)
	info, err := t.Read(e.t.Context())
	require.NoError(e.t, err)
	return info
}

// absent reports whether there is no such path below the mount.
func (e *engine) absent(path string) bool {
	e.t.Helper()
	resp, err := e.vault.Logical().ReadRawWithContext(e.t.Context(), e.mount+"/"+path)
	if resp != nil {
		defer func() { _ = resp.Body.Close() }()
	}
	if err == nil {
		return false
	}
	require.NotNil(e.t, resp, "%v", err)
	require.Equal(e.t, http.StatusNotFound, resp.StatusCode)
	return strings.Contains(err.Error(), "404")
}
