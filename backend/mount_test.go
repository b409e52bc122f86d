// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

const testTenant = "3fa85f64-5717-4562-b3fc-2c963f66afa6"

// mount is an engine on a disk that outlives it.
type mount struct {
	t       *testing.T
	disk    *storagetest.Disk
	storage *storagetest.Storage
	b       *Engine
}

// newMount starts an engine on an empty disk.
func newMount(t *testing.T) *mount {
	t.Helper()
	disk := storagetest.NewDisk()
	disk.Set("config", []byte(`{"min_deletion_window":0}`)) // tests delete at once
	return openMount(t, disk, 0, storagetest.None)
}

// openMount starts an engine on what is on disk, with a storage that fails its
// nth operation.
func openMount(t *testing.T, disk *storagetest.Disk, n int, fault storagetest.Fault) *mount {
	t.Helper()
	m := conditions{}.engine(t, disk, n, fault)
	m.start()
	return m
}

// conditions are what an engine runs under, for tests that it matters to.
type conditions struct {
	log    hclog.Logger       // nil keeps no log
	clock  func() time.Time   // nil is the time package's
	system logical.SystemView // nil is an active node's
}

// rotations is an engine that has not been started.
func (c conditions) engine(t *testing.T, disk *storagetest.Disk, n int, fault storagetest.Fault) *mount {
	t.Helper()
	if c.log == nil {
		c.log = hclog.NewNullLogger()
	}
	if c.clock == nil {
		c.clock = time.Now
	}
	if c.system == nil {
		c.system = logical.StaticSystemView{PluginEnvironment: &logical.PluginEnvironment{}}
	}
	m := &mount{t: t, disk: disk, storage: storagetest.Open(disk, n, fault)}
	b, err := New(context.Background(), &logical.BackendConfig{
		StorageView: m.storage,
		BackendUUID: "6f2b1a6e-0000-4000-8000-000000000000",
		Logger:      c.log,
		System:      c.system,
	}, Options{Clock: c.clock, NewWrappingKey: nextWrappingKey})
	require.NoError(t, err)
	m.b = b
	m.limitSeals(fewSeals)
	return m
}

// start initializes the engine, which takes up what is unfinished.
func (m *mount) start() {
	m.t.Helper()
	require.NoError(m.t, m.b.Initialize(context.Background(), &logical.InitializationRequest{Storage: m.storage}))
}

// close stops the engine as Vault does.
func (m *mount) close() { m.b.Cleanup(context.Background()) }

// crash stops the engine as SIGKILL does: nothing that it does later has effect.
func (m *mount) crash() {
	m.storage.Kill()
	m.close()
}

// on fails operations of that name on keys with that prefix.
func on(name, prefix string, fault storagetest.Fault) func(op, key string) storagetest.Fault {
	return func(op, key string) storagetest.Fault {
		if op == name && strings.HasPrefix(key, prefix) {
			return fault
		}
		return storagetest.None
	}
}

// call makes a request with an ID of its own.
func (m *mount) call(op logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	return m.callAs(m.requestID(), op, path, data)
}

// requests counts those of all mounts, since an ID is never used twice.
var requests atomic.Int64

func (m *mount) requestID() string {
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", requests.Add(1))
}

// callAs makes a request with a given ID. As over gRPC, what it carries goes
// through JSON.
func (m *mount) callAs(id string, op logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	encoded, err := json.Marshal(data)
	require.NoError(m.t, err)
	var arrived map[string]any
	require.NoError(m.t, json.Unmarshal(encoded, &arrived))
	resp, err := m.b.HandleRequest(context.Background(), &logical.Request{
		ID: id, Operation: op, Path: path, Data: arrived, Storage: m.storage, DisplayName: "root",
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

// Described checks an answer against the schema that the path publishes.
func (m *mount) described(op logical.Operation, path string, resp *logical.Response) {
	m.t.Helper()
	if op == logical.RollbackOperation || op == logical.HelpOperation {
		return
	}
	if op == logical.ListOperation && resp.Data["keys"] == nil {
		return // Vault makes a 404 of an empty list
	}
	if resp.Data[logical.HTTPStatusCode] != nil {
		return // a whole HTTP answer, of a batch in which something failed
	}
	n, _ := checked.LoadOrStore(string(op)+" "+m.b.Route(path).Pattern, new(atomic.Int64))
	if n.(*atomic.Int64).Add(1) > enough {
		return
	}
	schema.ValidateResponse(m.t, schema.GetResponseSchema(m.t, m.b.Route(path), op), resp, true)
}

// must makes a request that has to succeed and returns the answer's data.
func (m *mount) must(op logical.Operation, path string, data map[string]any) map[string]any {
	m.t.Helper()
	resp, err := m.call(op, path, data)
	require.NoError(m.t, err, "%s %s", op, path)
	if resp == nil {
		return nil
	}
	require.NoError(m.t, resp.Error(), "%s %s", op, path)
	return resp.Data
}

// destroyAtOnce lets rotations destroy the old key as they end.
func (m *mount) destroyAtOnce() {
	m.must(logical.UpdateOperation, "config", map[string]any{"retired_key_retention": 0})
}

func tenantPath(rest string) string { return "tenants/" + testTenant + rest }

func itemPath(name string) string { return tenantPath("/secrets/" + name) }

// secret is the body of a write of an item.
func secret(value string) map[string]any {
	return map[string]any{"data": map[string]any{"value": value}}
}

// status reads how a rotation stands.
func (m *mount) status(rotationID string) map[string]any {
	m.t.Helper()
	return m.must(logical.ReadOperation, tenantPath("/dek/rotations/"+rotationID), nil)
}

// code is the HTTP status that Vault would answer an error with.
func code(resp *logical.Response, err error) int {
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
