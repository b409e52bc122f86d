// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

const devTenant = "3fa85f64-5717-4562-b3fc-2c963f66afa6"

// buildDevstack builds the command once for all tests.
var buildDevstack = sync.OnceValues(func() (string, error) {
	root, err := devstack.RepoRoot()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, "bin", "devstack")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "./internal/devstack/cmd/devstack")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	return bin, cmd.Run()
})

// devCommand is a running `devstack dev`.
type devCommand struct {
	cmd    *exec.Cmd
	output *bytes.Buffer
	dir    string
	env    map[string]string
}

// startDev runs the command until .dev/env is there.
func startDev(t *testing.T, dir string, extraEnv ...string) *devCommand {
	t.Helper()
	bin, err := buildDevstack()
	require.NoError(t, err)
	d := &devCommand{cmd: exec.Command(bin, "-dir", dir, "dev"), output: &bytes.Buffer{}, dir: dir}
	d.cmd.Env = append(os.Environ(), extraEnv...)
	d.cmd.Stdout, d.cmd.Stderr = d.output, d.output
	require.NoError(t, d.cmd.Start())
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	envFile := filepath.Join(dir, "env")
	require.Eventually(t, func() bool { _, err := os.Stat(envFile); return err == nil }, time.Minute, rotationTick)
	d.env = sourced(t, envFile)
	return d
}

// stop sends a signal and returns how the command ended.
func (d *devCommand) stop(t *testing.T, signal syscall.Signal) error {
	t.Helper()
	require.NoError(t, d.cmd.Process.Signal(signal))
	return d.cmd.Wait()
}

// sourced is what a shell has in its environment after reading the file.
func sourced(t *testing.T, file string) map[string]string {
	t.Helper()
	cmd := exec.Command("sh", "-c", `. "$1" && env`, "sh", file)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.Output()
	require.NoError(t, err)
	env := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[name] = value
	}
	return env
}

// claims of a JWT, unverified.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var c map[string]any
	require.NoError(t, json.Unmarshal(payload, &c))
	return c
}

// children are the processes that the command has started, and theirs.
func children(t *testing.T, pid int) []int {
	t.Helper()
	out, err := exec.Command("ps", "-eo", "pid=,ppid=").Output()
	require.NoError(t, err)
	of := map[int][]int{}
	for scanner := bufio.NewScanner(bytes.NewReader(out)); scanner.Scan(); {
		fields := strings.Fields(scanner.Text())
		require.Len(t, fields, 2)
		child, err := strconv.Atoi(fields[0])
		require.NoError(t, err)
		parent, err := strconv.Atoi(fields[1])
		require.NoError(t, err)
		of[parent] = append(of[parent], child)
	}
	var all []int
	for next := of[pid]; len(next) > 0; next = next[1:] {
		all = append(all, next[0])
		next = append(next, of[next[0]]...)
	}
	return all
}

func TestDevEnvironment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's .dev") // quotes and spaces do no harm
	d := startDev(t, dir)
	env := d.env

	t.Run("files are the owner's", func(t *testing.T) {
		for name, mode := range map[string]os.FileMode{"env": 0o600, "jwt-key.pem": 0o600, "vault.log": 0o600, ".": 0o700} {
			info, err := os.Stat(filepath.Join(dir, name))
			require.NoError(t, err)
			assert.Equal(t, mode, info.Mode().Perm(), name)
		}
	})
	t.Run("addresses and tenant", func(t *testing.T) {
		assert.Equal(t, devTenant, env["DEK_TENANT_ID"])
		for _, url := range []string{env["VAULT_ADDR"] + "/v1/sys/health", env["DEK_PROXY_ADDR"] + "/health"} {
			a := send(t, http.MethodGet, url, http.Header{}, nil)
			assert.Equal(t, http.StatusOK, a.Status, url)
		}
		a := send(t, http.MethodGet, env["VAULT_ADDR"]+"/v1/dek/tenants/"+devTenant, http.Header{"X-Vault-Token": {env["VAULT_TOKEN"]}}, nil)
		assert.Equal(t, map[string]any{"credentials": 25.0, "api_keys": 10.0, "secrets": 50.0}, a.data()["item_counts"])
	})
	t.Run("JWTs", func(t *testing.T) { checkJWTs(t, env) })
	t.Run("roles", func(t *testing.T) { checkRoles(t, env) })
	t.Run("duties", func(t *testing.T) { checkDuties(t, env) })
	t.Run("PATH", func(t *testing.T) {
		root, err := devstack.RepoRoot()
		require.NoError(t, err)
		assert.Equal(t, filepath.Join(root, "bin")+":"+os.Getenv("PATH"), env["PATH"])
	})
	t.Run("fleet", func(t *testing.T) { checkFleet(t, env) })
	t.Run("another plugin", func(t *testing.T) { checkAnotherPlugin(t, dir, env) })
	t.Run("lines", func(t *testing.T) {
		file, err := os.ReadFile(filepath.Join(dir, "env"))
		require.NoError(t, err)
		for line := range strings.Lines(string(file)) {
			assert.Regexp(t, "^export [A-Z_]+='.*'\n$", line)
		}
	})

	pids := children(t, d.cmd.Process.Pid)
	assert.NoError(t, d.stop(t, syscall.SIGTERM), "stopping is no failure")
	requireGone(t, pids)
	assert.NoFileExists(t, filepath.Join(dir, "env"))
	t.Run("output", func(t *testing.T) {
		assert.Contains(t, d.output.String(), env["DEK_PROXY_ADDR"])
		assert.Contains(t, d.output.String(), env["DEK_PROXY_ADDR"]+"/ui/")
		assert.Contains(t, d.output.String(), fleetSaid)
		assert.Contains(t, d.output.String(), "vault read -format=json dek/tenants/$DEK_TENANT_ID/dek\n", "a map is not on one line")
		for name, value := range env {
			if name == "VAULT_TOKEN" || strings.HasPrefix(name, "DEK_JWT_") {
				assert.False(t, strings.Contains(d.output.String(), value), "%s is printed", name)
			}
		}
	})
}

// checkAnotherPlugin puts a plugin in place by the commands of docs/development.md.
func checkAnotherPlugin(t *testing.T, dir string, env map[string]string) {
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	binary, err := os.ReadFile(filepath.Join(root, "bin", "vault-plugin-dek"))
	require.NoError(t, err)
	const name = "vault-plugin-dek_mine.1"
	file := filepath.Join(dir, "plugins", name)
	require.NoError(t, os.WriteFile(file, binary, 0o700))
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "bootstrap", "bootstrap.sh"))
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Env = append(cmd.Env, "VAULT_BIN="+vaultBin(t), "PLUGIN_FILE="+file)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "command "+name)
	assert.Contains(t, string(out), "dek/ is ready")
}

// fleetSaid is what dev says once it has made a fleet.
const fleetSaid = "Made 200 tenants with keys of different ages."

// checkFleet looks for what the page shows first: the tenants that need attention, and keys
// of different ages.
func checkFleet(t *testing.T, env map[string]string) {
	header := http.Header{"X-Vault-Token": {env["VAULT_TOKEN"]}}
	get := func(path string) map[string]any {
		return send(t, http.MethodGet, env["VAULT_ADDR"]+"/v1/dek/"+path, header, nil).data()
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		status := get("status")
		want := map[string]any{
			"index_complete": true, "tenants": devstack.FleetSize + 1.0, "overdue": 1.0, "paused": 1.0, "paused_overdue": 0.0, "rotations_failed": 1.0, "rotations_active": 0.0,
		}
		for field, value := range want {
			assert.Equal(c, value, status[field], field)
		}
		age, _ := status["oldest_key_age"].(float64)
		assert.Greater(c, age, (400 * 24 * time.Hour).Seconds())
		assert.Greater(c, status["due_within_7d"], 0.0)
	}, rotationLimit, rotationTick)
	ages := map[string]bool{}
	tenants, _ := get("fleet?limit=1000&sort=age")["tenants"].([]any)
	require.Len(t, tenants, devstack.FleetSize+1)
	for _, each := range tenants {
		next, _ := each.(map[string]any)["next_rotation_at"].(string)
		if at, err := time.Parse(time.RFC3339, next); err == nil {
			ages[at.Format("2006-01")] = true
		}
	}
	assert.GreaterOrEqual(t, len(ages), 12, "keys become due in every month of a year")
}

// TestDevWithoutAFleet: nothing but the example tenant is there, and storage cannot be
// looked into.
func TestDevWithoutAFleet(t *testing.T) {
	d := startDev(t, filepath.Join(t.TempDir(), ".dev"), "DEV_FLEET=0")
	header := http.Header{"X-Vault-Token": {d.env["VAULT_TOKEN"]}}
	a := send(t, "LIST", d.env["VAULT_ADDR"]+"/v1/dek/tenants", header, nil)
	assert.Equal(t, []any{devTenant}, a.data()["keys"])
	a = send(t, "LIST", d.env["VAULT_ADDR"]+"/v1/sys/raw/logical", header, nil)
	assert.Equal(t, http.StatusNotFound, a.Status)
	require.NoError(t, d.stop(t, syscall.SIGTERM))
	assert.NotContains(t, d.output.String(), fleetSaid)
}

func checkJWTs(t *testing.T, env map[string]string) {
	seen := map[string]map[any]bool{"sub": {}, "iat": {}, "name": {}, "email": {}}
	for variable, want := range map[string]struct {
		roles  []any
		tenant any
	}{
		"DEK_JWT_SUPER_ADMIN":    {roles: []any{"super_admin"}},
		"DEK_JWT_SECURITY_ADMIN": {roles: []any{"security_admin"}, tenant: devTenant},
		"DEK_JWT_OTHER_TENANT":   {roles: []any{"security_admin"}, tenant: "7c9e6679-7425-40de-944b-e07fc1f90ae7"},
		"DEK_JWT_KEY_ADMIN":      {roles: []any{"key_admin"}},
		"DEK_JWT_APPLICATION":    {roles: []any{"application"}, tenant: devTenant},
		"DEK_JWT_AUDITOR":        {roles: []any{"auditor"}},
		"DEK_JWT_KEY_DESTROYER":  {roles: []any{"key_destroyer"}},
		"DEK_JWT_KEK_ADMIN":      {roles: []any{"kek_admin"}},
		"DEK_JWT_KEY_IMPORTER":   {roles: []any{"key_importer"}, tenant: devTenant},
		"DEK_JWT_NO_ROLE":        {roles: []any{}, tenant: devTenant},
		"DEK_JWT_EXPIRED":        {roles: []any{"super_admin"}},
	} {
		c := claims(t, env[variable])
		assert.Equal(t, want.roles, c["roles"], variable)
		assert.Equal(t, want.tenant, c["tenant_id"], variable)
		for claim, values := range seen {
			assert.NotEmpty(t, c[claim], "%s: %s", variable, claim)
			assert.False(t, values[c[claim]], "%s shares its %s", variable, claim)
			values[c[claim]] = true
		}
		iat, exp := time.Unix(int64(c["iat"].(float64)), 0), time.Unix(int64(c["exp"].(float64)), 0)
		assert.Equal(t, 24*time.Hour, exp.Sub(iat), variable)
		wantExp := time.Now().Add(24 * time.Hour)
		if variable == "DEK_JWT_EXPIRED" {
			wantExp = time.Now().Add(-time.Hour)
		}
		assert.WithinDuration(t, wantExp, exp, time.Minute, variable)
	}
}

// checkRoles asks the proxy with each JWT. Nothing is changed: the rotation
// asked for is none.
func checkRoles(t *testing.T, env map[string]string) {
	for variable, want := range map[string]int{
		"DEK_JWT_SUPER_ADMIN":    http.StatusNotFound,
		"DEK_JWT_SECURITY_ADMIN": http.StatusNotFound,
		"DEK_JWT_OTHER_TENANT":   http.StatusForbidden,
		"DEK_JWT_KEY_ADMIN":      http.StatusForbidden,
		"DEK_JWT_NO_ROLE":        http.StatusForbidden,
		"DEK_JWT_EXPIRED":        http.StatusUnauthorized,
	} {
		url := env["DEK_PROXY_ADDR"] + "/api/v1/admin/dek/rotate/rot-00000000-0000-4000-8000-000000000000"
		a := send(t, http.MethodGet, url, http.Header{
			"Authorization": {"Bearer " + env[variable]}, "X-Tenantid": {devTenant},
		}, nil)
		assert.Equal(t, want, a.Status, variable)
	}
}

// checkDuties logs in at Vault with each JWT and does what its role is for.
func checkDuties(t *testing.T, env map[string]string) {
	for variable, duty := range map[string]struct{ method, path string }{
		"DEK_JWT_APPLICATION":    {http.MethodGet, tenantPath(devTenant, "credentials/billing/production/postgres")},
		"DEK_JWT_SECURITY_ADMIN": {http.MethodGet, tenantPath(devTenant, "dek")},
		"DEK_JWT_SUPER_ADMIN":    {http.MethodGet, tenantPath(devTenant)},
		"DEK_JWT_AUDITOR":        {http.MethodGet, "dek/config"},
		"DEK_JWT_KEY_DESTROYER":  {http.MethodGet, "dek/config"},
		"DEK_JWT_KEK_ADMIN":      {http.MethodGet, "dek/kek"},
		"DEK_JWT_KEY_ADMIN":      {http.MethodGet, "dek/key/rotationSettings"},
		"DEK_JWT_KEY_IMPORTER":   {http.MethodGet, "dek/wrapping_key"},
	} {
		a := send(t, http.MethodPost, env["VAULT_ADDR"]+"/v1/auth/jwt/login", http.Header{},
			map[string]any{"role": "dek", "jwt": env[variable]})
		auth, _ := a.Body["auth"].(map[string]any)
		token, _ := auth["client_token"].(string)
		require.NotEmpty(t, token, "%s: %s", variable, a.errors())
		a = send(t, duty.method, env["VAULT_ADDR"]+"/v1/"+duty.path, http.Header{"X-Vault-Token": {token}}, nil)
		assert.Equal(t, http.StatusOK, a.Status, "%s: %s", variable, a.errors())
	}
}

// TestDevGoesOn stops a stack on raft, once in order and once with SIGKILL, and
// starts it again on the same directory and ports.
func TestDevGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), ".dev")
	d := startDev(t, dir, "DEV_STORAGE=raft")
	token := d.env["VAULT_TOKEN"]
	jwt := d.env["DEK_JWT_SECURITY_ADMIN"]
	item := "/v1/dek/tenants/" + devTenant + "/secrets/mine"
	root := http.Header{"X-Vault-Token": {token}}
	a := send(t, http.MethodPut, d.env["VAULT_ADDR"]+item, root, map[string]any{"data": map[string]any{"value": "mine"}})
	require.Equal(t, http.StatusOK, a.Status, a.errors())
	_, vaultPort, _ := strings.Cut(strings.TrimPrefix(d.env["VAULT_ADDR"], "http://"), ":")
	_, proxyPort, _ := strings.Cut(strings.TrimPrefix(d.env["DEK_PROXY_ADDR"], "http://"), ":")

	hangup := syscall.SIGHUP
	if signal.Ignored(hangup) {
		hangup = syscall.SIGTERM // under nohup, dev ignores it as this test does
	}
	first := d
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL, hangup} {
		pids := children(t, d.cmd.Process.Pid)
		addr := d.env["VAULT_ADDR"]
		err := d.stop(t, sig)
		if sig == syscall.SIGKILL {
			require.Error(t, err)
		} else {
			require.NoError(t, err, sig)
		}
		requireGone(t, pids)
		require.NoFileExists(t, filepath.Join(dir, "env"), sig)
		assert.Equal(t, d == first, strings.Contains(d.output.String(), fleetSaid), "a fleet is made once")

		d = startDev(t, dir, "DEV_STORAGE=raft", "DEV_PORT="+vaultPort, "DEV_PROXY_PORT="+proxyPort)
		assert.Equal(t, addr, d.env["VAULT_ADDR"])
		assert.Equal(t, token, d.env["VAULT_TOKEN"])
		a := send(t, http.MethodGet, d.env["VAULT_ADDR"]+item, root, nil)
		require.Equal(t, http.StatusOK, a.Status, a.errors())
		assert.Equal(t, map[string]any{"value": "mine"}, a.data()["data"])
		a = send(t, http.MethodGet, d.env["DEK_PROXY_ADDR"]+"/api/v1/admin/dek/rotate/rot-00000000-0000-4000-8000-000000000000",
			http.Header{"Authorization": {"Bearer " + jwt}, "X-Tenantid": {devTenant}}, nil)
		assert.Equal(t, http.StatusNotFound, a.Status, "an old JWT still logs in")
	}
	require.NoError(t, d.stop(t, syscall.SIGTERM))
}
