// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// TenantID is that of the tenant that most tests have.
const TenantID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"

// Mount is an engine on a disk that outlives it.
type Mount struct {
	T       *testing.T
	Disk    *storagetest.Disk
	Storage *storagetest.Storage
	Engine  *Engine
	Transit *providertest.Transit // that key providers of the mount ask
	// KeysMayStay says that a key may outlive its retention: by a clock that is wrong, or
	// because of a page that turns up on it.
	KeysMayStay bool
	// KeysMayGoEarly says that an entry may date a key's destruction before the end of its
	// retention: by a clock that is set back between the look at it and the entry.
	KeysMayGoEarly bool

	clock func() time.Time // the engine's
}

// NewMount starts an engine on an empty disk.
func NewMount(t *testing.T) *Mount {
	t.Helper()
	disk := storagetest.NewDisk()
	disk.Set("config", []byte(`{"min_deletion_window":0}`)) // tests delete at once
	return OpenMount(t, disk, 0, storagetest.None)
}

// OpenMount starts an engine on what is on disk, with a storage that fails its
// nth operation.
func OpenMount(t *testing.T, disk *storagetest.Disk, n int, fault storagetest.Fault) *Mount {
	t.Helper()
	m := Conditions{}.Open(t, disk, n, fault)
	m.Start()
	return m
}

// Conditions are what an engine runs under, for tests that it matters to.
type Conditions struct {
	Log    hclog.Logger       // nil keeps no log
	Clock  func() time.Time   // nil is the time package's
	System logical.SystemView // nil is an active node's
	// Transport takes the calls of key providers. Nil: the mount's Transit.
	Transport http.RoundTripper
}

// Open makes an engine, which Start starts, on a storage that fails its nth operation.
func (c Conditions) Open(t *testing.T, disk *storagetest.Disk, n int, fault storagetest.Fault) *Mount {
	t.Helper()
	if c.Clock == nil {
		c.Clock = time.Now
	}
	m := &Mount{T: t, Disk: disk, Storage: storagetest.Open(disk, n, fault), clock: c.Clock, Transit: providertest.NewTransit()}
	if c.Transport == nil {
		c.Transport = m.Transit
	}
	m.Engine = c.NewEngine(t, m.Storage, c.Transport)
	m.LimitSeals(fewSeals)
	return m
}

// Engine is a whole engine.
type Engine = backend.Engine

// NewEngine returns an engine on any storage. Its key providers are asked by way of
// transit, which may be nil.
func (c Conditions) NewEngine(t *testing.T, s logical.Storage, transit http.RoundTripper) *Engine {
	t.Helper()
	if c.Log == nil {
		c.Log = hclog.NewNullLogger()
	}
	if c.System == nil {
		c.System = logical.StaticSystemView{PluginEnvironment: &logical.PluginEnvironment{}}
	}
	e, err := backend.New(context.Background(), &logical.BackendConfig{
		StorageView: s,
		BackendUUID: "6f2b1a6e-0000-4000-8000-000000000000",
		Logger:      c.Log,
		System:      c.System,
	}, backend.Options{
		Clock: c.Clock, NewWrappingKey: NextWrappingKey, Providers: provider.Surroundings{Transport: transit},
	})
	require.NoError(t, err)
	return e
}

// Start initializes the engine, which takes up what is unfinished.
func (m *Mount) Start() {
	m.T.Helper()
	require.NoError(m.T, m.Engine.Initialize(context.Background(), &logical.InitializationRequest{Storage: m.Storage}))
}

// Close stops the engine as Vault does.
func (m *Mount) Close() { m.Engine.Cleanup(context.Background()) }

// Crash stops the engine as SIGKILL does: nothing that it does later has effect.
func (m *Mount) Crash() {
	m.Storage.Kill()
	m.Close()
}

// FailOn fails operations of that name on keys with that prefix.
func FailOn(name, prefix string, fault storagetest.Fault) func(op, key string) storagetest.Fault {
	return func(op, key string) storagetest.Fault {
		if op == name && strings.HasPrefix(key, prefix) {
			return fault
		}
		return storagetest.None
	}
}

// Call makes a request with an ID of its own.
func (m *Mount) Call(op logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	return m.CallAs(m.RequestID(), op, path, data)
}

// requests counts those of all mounts, since an ID is never used twice.
var requests atomic.Int64

// RequestID returns an ID that no request has had.
func (m *Mount) RequestID() string {
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", requests.Add(1))
}

// CallAs makes a request with a given ID. As over gRPC, what it carries goes
// through JSON.
func (m *Mount) CallAs(id string, op logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	encoded, err := json.Marshal(data)
	require.NoError(m.T, err)
	var arrived map[string]any
	require.NoError(m.T, json.Unmarshal(encoded, &arrived))
	resp, err := m.Engine.HandleRequest(context.Background(), &logical.Request{
		ID: id, Operation: op, Path: path, Data: arrived, Storage: m.Storage, DisplayName: "root",
	})
	if err == nil && resp != nil && !resp.IsError() {
		m.described(op, path, resp)
	}
	return resp, err
}

// checked counts the answers that were held against each schema.
var checked sync.Map

// enough answers of a kind show what more of them would.
const enough = 1000

// described checks an answer against the schema that the path publishes.
func (m *Mount) described(op logical.Operation, path string, resp *logical.Response) {
	m.T.Helper()
	if op == logical.RollbackOperation || op == logical.HelpOperation {
		return
	}
	if op == logical.ListOperation && resp.Data["keys"] == nil {
		return // Vault makes a 404 of an empty list
	}
	if resp.Data == nil {
		return // only a warning, where nothing is answered else
	}
	if resp.Data[logical.HTTPStatusCode] != nil {
		return // a whole HTTP answer, of a batch in which something failed
	}
	n, _ := checked.LoadOrStore(string(op)+" "+m.Engine.Route(path).Pattern, new(atomic.Int64))
	if n.(*atomic.Int64).Add(1) > enough {
		return
	}
	schema.ValidateResponse(m.T, schema.GetResponseSchema(m.T, m.Engine.Route(path), op), resp, true)
}

// Must makes a request that has to succeed and returns the answer's data.
func (m *Mount) Must(op logical.Operation, path string, data map[string]any) map[string]any {
	m.T.Helper()
	resp, err := m.Call(op, path, data)
	require.NoError(m.T, err, "%s %s", op, path)
	if resp == nil {
		return nil
	}
	require.NoError(m.T, resp.Error(), "%s %s", op, path)
	return resp.Data
}

// DestroyAtOnce lets rotations destroy the old key as they end.
func (m *Mount) DestroyAtOnce() {
	m.Must(logical.UpdateOperation, "config", map[string]any{"retired_key_retention": 0})
}

// TenantPath returns a path below that of the tenant, or that itself for an empty rest.
func TenantPath(rest string) string { return "tenants/" + TenantID + rest }

// ItemPath returns the path of a secret of the tenant.
func ItemPath(name string) string { return TenantPath("/secrets/" + name) }

// Secret is the body of a write of an item.
func Secret(value string) map[string]any {
	return map[string]any{"data": map[string]any{"value": value}}
}

// Status reads how a rotation stands.
func (m *Mount) Status(rotationID string) map[string]any {
	m.T.Helper()
	return m.Must(logical.ReadOperation, TenantPath("/dek/rotations/"+rotationID), nil)
}

// Code is the HTTP status that Vault would answer an error with.
func Code(resp *logical.Response, err error) int {
	if err == nil {
		if resp != nil && resp.IsError() {
			return 400
		}
		return 200
	}
	if coded, ok := err.(logical.HTTPCodedError); ok { //nolint:errorlint // only a bare one survives gRPC
		return coded.Code()
	}
	return 500
}

// Slowly lets one page at a time move, so that operations come in one order.
func Slowly(m *Mount) {
	m.Must(logical.UpdateOperation, "config", map[string]any{"rotation_parallelism": 1})
	m.DestroyAtOnce()
}
