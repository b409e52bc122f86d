// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// fill writes items to a tenant until it has many pages, and returns what it wrote.
func fill(t *testing.T, s *devstack.Stack, tenant string, items int) map[string]string {
	t.Helper()
	written := map[string]string{}
	var entries []any
	for i := range items {
		name := fmt.Sprintf("item-%d", i)
		written[name] = strings.Repeat(name+" ", 400)
		entries = append(entries, map[string]any{"kind": "secrets", "name": name, "data": map[string]any{"v": written[name]}})
	}
	succeeded(t, callRoot(t, s, http.MethodPut, "dek/tenants/"+tenant+"/items", map[string]any{"items": entries}))
	return written
}

// readsAll reads every item of a tenant.
func readsAll(t *testing.T, s *devstack.Stack, tenant string, written map[string]string) {
	t.Helper()
	for name, value := range written {
		data := succeeded(t, callRoot(t, s, http.MethodGet, "dek/tenants/"+tenant+"/secrets/"+name, nil))
		require.Equal(t, value, data["data"].(map[string]any)["v"], name)
	}
}

// taken is a snapshot with what was under way.
type taken struct {
	snapshot   bytes.Buffer
	rotationID string
	erasing    string            // the tenant that was being shredded
	written    map[string]string // what it had
}

// snapshotInTheMiddle starts a rotation of a tenant's key, one of the KEK and the shredding
// of another tenant, and takes a snapshot meanwhile. Both rotations are under way still
// when it has been taken.
func snapshotInTheMiddle(t *testing.T, s *devstack.Stack, tenant string) *taken {
	t.Helper()
	for range 10 {
		r := &taken{erasing: newTenant(t, s)}
		r.written = fill(t, s, r.erasing, 30)
		succeeded(t, callRoot(t, s, http.MethodPut, "dek/kek/rotate", nil))
		r.rotationID = rotate(t, s, tenant)
		var shredding sync.WaitGroup
		shredding.Go(func() {
			a := callRoot(t, s, http.MethodDelete, "dek/tenants/"+r.erasing+"?deletion_window=0", nil)
			assert.Equal(t, http.StatusNoContent, a.Status, a.errors())
		})
		err := s.Snapshot(t.Context(), &r.snapshot)
		shredding.Wait()
		require.NoError(t, err)
		kek := succeeded(t, callRoot(t, s, http.MethodGet, "dek/kek", nil))["status"]
		rotation := succeeded(t, callRoot(t, s, http.MethodGet, "dek/tenants/"+tenant+"/dek/rotations/"+r.rotationID, nil))["status"]
		if kek == "in_progress" && rotation == "in_progress" {
			return r
		}
		waitRotation(t, s, tenant, r.rotationID, "completed")
		kekCompleted(t, s)
	}
	t.Fatal("the rotations are always over before the snapshot is taken")
	return nil
}

// erasedOrWhole waits until the tenant that was being shredded is gone, or finds all of it,
// if the snapshot was faster.
func (r *taken) erasedOrWhole(t *testing.T, s *devstack.Stack) {
	t.Helper()
	if a := callRoot(t, s, http.MethodGet, "dek/tenants/"+r.erasing, nil); a.Status == http.StatusOK && a.data()["state"] == "active" {
		readsAll(t, s, r.erasing, r.written)
		return
	}
	require.Eventually(t, func() bool {
		return callRoot(t, s, http.MethodGet, "dek/tenants/"+r.erasing, nil).Status == http.StatusNotFound
	}, rotationLimit, rotationTick)
	listed := succeeded(t, callRoot(t, s, "LIST", "dek/tombstones", nil))["keys"]
	assert.Contains(t, fmt.Sprint(listed), r.erasing)
}

// tenantUnderProvider is a tenant with an item, whose own KEK is under a key of another Vault's.
func tenantUnderProvider(t *testing.T, s *devstack.Stack) (id string, owner *transitOwner) {
	t.Helper()
	owner, id = newTransitOwner(t, shared(t)), uuid.NewString()
	succeeded(t, callRoot(t, s, http.MethodPut, "dek/providers/owner", owner.provider()))
	succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(id), map[string]any{"key_provider": "owner"}))
	put(t, s, tenantPath(id, "secrets/own"), map[string]any{"data": map[string]any{"v": id}})
	return id, owner
}

func kekCompleted(t *testing.T, s *devstack.Stack) {
	t.Helper()
	require.Eventually(t, func() bool {
		a := callRoot(t, s, http.MethodGet, "dek/kek", nil)
		return a.Status == http.StatusOK && a.data()["status"] == "completed"
	}, rotationLimit, rotationTick)
}

// TestRestoredSnapshot restores a snapshot that was taken in the middle of a rotation, of
// the KEK's rotation, of a deletion and of a shredding on a new cluster, by the steps of
// docs/operations.md. DEK_RESTORE_NODES is the cluster's size, three nodes without it.
func TestRestoredSnapshot(t *testing.T) {
	size, err := strconv.Atoi(cmp.Or(os.Getenv("DEK_RESTORE_NODES"), "3"))
	require.NoError(t, err)
	s, err := nodes(t, size).Leader(t.Context())
	require.NoError(t, err)
	succeeded(t, callRoot(t, s, http.MethodPut, "dek/config", map[string]any{"rotation_parallelism": 1, "manual_rotations_per_hour": 0}))
	others := newCrowd(t, s, "dek", 30)
	moving, deleted, shredded := newTenant(t, s), newTenant(t, s), newTenant(t, s)
	written := fill(t, s, moving, 300)
	few := fill(t, s, deleted, 3)
	fill(t, s, shredded, 3)
	provided, owner := tenantUnderProvider(t, s)
	succeeded(t, callRoot(t, s, http.MethodDelete, "dek/tenants/"+deleted+"?deletion_window=1h", nil))

	r := snapshotInTheMiddle(t, s, moving)
	for _, id := range []string{shredded, provided} {
		require.Equal(t, http.StatusNoContent, callRoot(t, s, http.MethodDelete, "dek/tenants/"+id+"?deletion_window=0", nil).Status)
	}
	owner.destroy(t)
	kept := keptCheckpoint(t, s)
	dek, export := dekCommand(t), filepath.Join(t.TempDir(), "log")
	code, _, stderr := dek(s, "evidence", "export", export)
	require.Equal(t, 0, code, stderr)
	vkey := succeeded(t, callRoot(t, s, http.MethodGet, "dek/evidence/key", nil))["vkey"].(string)

	c := nodes(t, size)
	require.NoError(t, c.Restore(t.Context(), &r.snapshot, s))
	restored, err := c.Leader(t.Context())
	require.NoError(t, err)

	waitRotation(t, restored, moving, r.rotationID, "completed")
	kekCompleted(t, restored)
	readsAll(t, restored, moving, written)
	for i, id := range others.ids {
		data := succeeded(t, callRoot(t, restored, http.MethodGet, "dek/tenants/"+id+"/secrets/own", nil))
		require.Equal(t, id, data["data"].(map[string]any)["v"])
		a := callRoot(t, restored, http.MethodPut, "dek/tenants/"+id+"/decrypt", map[string]any{"ciphertext": others.ciphertexts[i]})
		require.Equal(t, "aGVsbG8=", succeeded(t, a)["plaintext"])
	}
	succeeded(t, callRoot(t, restored, http.MethodPut, "dek/tenants/"+deleted+"/restore", nil))
	readsAll(t, restored, deleted, few)
	r.erasedOrWhole(t, restored)

	// What lay beneath the owner's key, which was destroyed since, is back and does not open.
	require.Equal(t, http.StatusOK, callRoot(t, restored, http.MethodGet, tenantPath(provided), nil).Status)
	refused(t, callRoot(t, restored, http.MethodGet, tenantPath(provided, "secrets/own"), nil), http.StatusFailedDependency, "owner")
	refused(t, callRoot(t, restored, http.MethodPut, tenantPath(provided, "encrypt"), map[string]any{"plaintext": "eA=="}), http.StatusFailedDependency, "owner")

	// What was shredded after the snapshot is back. The kept checkpoint tells that, and the
	// kept export tells of whom; the tenant is deleted again.
	a := callRoot(t, restored, http.MethodPost, "dek/evidence/check", map[string]any{"checkpoint": kept})
	require.Equal(t, http.StatusConflict, a.Status, a.errors())
	require.Contains(t, a.errors(), "storage went back")
	code, stdout, stderr := dek(nil, "evidence", "report", export, "--vkey", vkey, "--format", "json", "--tenant", shredded)
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stdout, shredded)
	require.Equal(t, http.StatusOK, callRoot(t, restored, http.MethodGet, "dek/tenants/"+shredded, nil).Status)
	require.Equal(t, http.StatusNoContent, callRoot(t, restored, http.MethodDelete, "dek/tenants/"+shredded+"?deletion_window=0", nil).Status)
	require.Equal(t, http.StatusNotFound, callRoot(t, restored, http.MethodGet, "dek/tenants/"+shredded, nil).Status)
}

// nodes is a new cluster. Its nodes have the same names each time, as nodes that a snapshot
// is restored on should: Vault may take one that the snapshot does not know for removed.
func nodes(t *testing.T, size int) *devstack.Cluster {
	t.Helper()
	c, err := devstack.StartCluster(t.Context(), size, devstack.Options{DataDir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of a cluster's log:\n%s", c.Nodes()[0].LogTail("vault"))
		}
		assert.NoError(t, c.Stop())
	})
	return c
}

// keptCheckpoint is the checkpoint of the evidence log once nothing waits for it.
func keptCheckpoint(t *testing.T, s *devstack.Stack) string {
	t.Helper()
	require.Eventually(t, func() bool {
		return succeeded(t, callRoot(t, s, http.MethodGet, "dek/status", nil))["evidence_pending"] == float64(0)
	}, time.Minute, rotationTick)
	return succeeded(t, callRoot(t, s, http.MethodGet, "dek/evidence/checkpoint", nil))["checkpoint"].(string)
}
