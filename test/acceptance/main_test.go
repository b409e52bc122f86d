// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/compatibility"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// rotationLimit is how long a rotation in a test may take on a busy machine,
// and rotationTick how often it is looked at.
const (
	rotationLimit = 60 * time.Second
	rotationTick  = 20 * time.Millisecond
)

var (
	sharedOnce  sync.Once
	sharedStack *devstack.Stack
	errShared   error
	// sharedSockets is where key providers of type kmsv2 may have sockets for it.
	sharedSockets string
)

// shared is the stack in memory that the contract tests use together. The first
// that asks for it starts it.
func shared(t *testing.T) *devstack.Stack {
	t.Helper()
	sharedOnce.Do(func() {
		if sharedSockets, errShared = os.MkdirTemp("", "dek-kms-"); errShared == nil {
			sharedStack, errShared = devstack.Start(t.Context(), devstack.Options{ProviderSockets: sharedSockets})
		}
	})
	require.NoError(t, errShared)
	return sharedStack
}

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := noteServer(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	if sharedStack != nil {
		if code != 0 {
			fmt.Println("the end of Vault's log:\n" + sharedStack.LogTail("vault"))
			fmt.Println("the end of the proxy's log:\n" + sharedStack.LogTail("proxy"))
		}
		if err := sharedStack.Stop(); err != nil {
			fmt.Println("stop the shared stack:", err)
			code = 1
		}
	}
	_ = os.RemoveAll(sharedSockets)
	os.Exit(code)
}

// noteServer tells the table of compatibility which server all the tests passed on, or
// those of a short form.
func noteServer() error {
	stack := sharedStack
	if stack == nil {
		return nil // no more than a few tests were run
	}
	out, err := stack.ServerVersion()
	if err != nil {
		return err
	}
	form := "all acceptance tests"
	switch {
	case os.Getenv("DEK_SHORT_FORM") != "":
		form = "the short form"
	case flag.Lookup("test.run").Value.String() != "", flag.Lookup("test.skip").Value.String() != "":
		return nil // some of them
	}
	name, version := "Vault", compatibility.VersionIn([]byte(out))
	if strings.HasPrefix(out, "OpenBao") {
		name = "OpenBao"
	}
	pin, err := compatibility.RequiredBy("scripts/vault", "github.com/hashicorp/vault")
	if err != nil {
		return err
	}
	server := compatibility.Row{Name: name, Version: version, Tests: form}
	if err := compatibility.Note(server, name == "Vault" && version == pin); err != nil {
		return err
	}
	return compatibility.Note(compatibility.Row{Name: "Go", Version: strings.TrimPrefix(runtime.Version(), "go"), Tests: form}, false)
}

// start is a stack of the test's own.
func start(t *testing.T, opts devstack.Options) *devstack.Stack {
	t.Helper()
	s, err := devstack.Start(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of Vault's log:\n%s", s.LogTail("vault"))
		}
		assert.NoError(t, s.Stop())
	})
	return s
}

// answer is an HTTP response as it came: api.Client would drop half of it.
type answer struct {
	Status int
	Header http.Header
	Raw    []byte
	// Body is the decoded JSON object, nil if there was none.
	Body map[string]any
}

// data is the data of Vault's envelope, nil if there is none.
func (a answer) data() map[string]any {
	d, _ := a.Body["data"].(map[string]any)
	return d
}

// errors is what Vault says went wrong, in one string.
func (a answer) errors() string {
	list, _ := a.Body["errors"].([]any)
	return fmt.Sprint(list...)
}

// call sends a request to Vault. path is without /v1/, and may have a query;
// method may be LIST; body is encoded as JSON unless it is nil or a string,
// which is sent as it is.
func call(t *testing.T, s *devstack.Stack, method, path, token string, body any) answer {
	t.Helper()
	header := http.Header{}
	if token != "" {
		header.Set("X-Vault-Token", token)
	}
	if method == http.MethodPatch {
		header.Set("Content-Type", "application/merge-patch+json")
	}
	a := send(t, method, s.VaultAddr()+"/v1/"+path, header, body)
	heldAgainstTheDocument(t, s, method, path, a)
	return a
}

// callRoot is call with the root token.
func callRoot(t *testing.T, s *devstack.Stack, method, path string, body any) answer {
	t.Helper()
	return call(t, s, method, path, s.RootToken(), body)
}

// callProxy sends a request to the proxy. Headers come as names and values in
// turn; there is no other.
func callProxy(t *testing.T, s *devstack.Stack, method, path string, body any, headers ...string) answer {
	t.Helper()
	require.Zero(t, len(headers)%2, "headers come in pairs")
	header := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		header.Set(headers[i], headers[i+1])
	}
	return send(t, method, s.ProxyURL()+path, header, body)
}

func send(t *testing.T, method, url string, header http.Header, body any) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, encode(t, body))
	require.NoError(t, err)
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	a := answer{Status: resp.StatusCode, Header: resp.Header, Raw: raw}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") && len(raw) > 0 {
		require.NoError(t, json.Unmarshal(raw, &a.Body), "%s %s", method, url)
	}
	return a
}

func encode(t *testing.T, body any) io.Reader {
	t.Helper()
	switch b := body.(type) {
	case nil:
		return http.NoBody
	case string:
		return strings.NewReader(b)
	default:
		data, err := json.Marshal(b)
		require.NoError(t, err)
		return bytes.NewReader(data)
	}
}

// newTenant creates a tenant that nobody else uses.
func newTenant(t *testing.T, s *devstack.Stack) string {
	t.Helper()
	id := uuid.NewString()
	a := callRoot(t, s, http.MethodPut, "dek/tenants/"+id, map[string]any{"display_name": t.Name()})
	require.Contains(t, []int{http.StatusOK, http.StatusNoContent}, a.Status, a.errors())
	return id
}

// mint is a JWT with these roles, of a person who is in no other test.
func mint(t *testing.T, s *devstack.Stack, tenantID string, roles ...string) string {
	t.Helper()
	token, err := s.MintJWT(devstack.Claims{
		Name: "Test Person", Email: "test.person@example.com", TenantID: tenantID, Roles: roles,
	})
	require.NoError(t, err)
	return token
}

// login is a Vault token for such a person.
func login(t *testing.T, s *devstack.Stack, tenantID string, roles ...string) string {
	t.Helper()
	token, err := s.Login(t.Context(), mint(t, s, tenantID, roles...))
	require.NoError(t, err)
	return token
}

// rotate starts a rotation and returns its ID.
func rotate(t *testing.T, s *devstack.Stack, tenantID string) string {
	t.Helper()
	a := callRoot(t, s, http.MethodPut, "dek/tenants/"+tenantID+"/dek/rotate", nil)
	require.Equal(t, http.StatusOK, a.Status, a.errors())
	id, _ := a.data()["rotation_id"].(string)
	require.NotEmpty(t, id)
	return id
}

// waitRotation waits until the rotation has the status and returns it then. A
// rotation that ends otherwise, or Vault not answering for a while, is waited
// out: the tests that use it kill things.
func waitRotation(t *testing.T, s *devstack.Stack, tenantID, rotationID, status string) map[string]any {
	t.Helper()
	var rotation map[string]any
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		secret, err := s.Client().Logical().ReadWithContext(t.Context(), "dek/tenants/"+tenantID+"/dek/rotations/"+rotationID)
		if !assert.NoError(c, err) || !assert.NotNil(c, secret, "no such rotation") {
			return
		}
		rotation = secret.Data
		assert.Equal(c, status, rotation["status"])
	}, rotationLimit, rotationTick)
	return rotation
}
