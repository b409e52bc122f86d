// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// keptLog is what an operator keeps outside: a checkpoint, and the leaves before it.
func keptLog(m *enginetest.Mount) (checkpoint string, leaves []any) {
	m.T.Helper()
	present := m.Must(enginetest.Read, "evidence/checkpoint", nil)
	for i := range present["size"].(int64) {
		leaves = append(leaves, m.Must(enginetest.Read, "evidence/entries/"+strconv.FormatInt(i, 10), nil)["leaf"])
	}
	return present["checkpoint"].(string), leaves
}

// checked answers evidence/check of a mount whose storage went back.
func checked(m *enginetest.Mount, checkpoint string, entries any) (body map[string]any, message string) {
	m.T.Helper()
	data := map[string]any{"checkpoint": checkpoint}
	if entries != nil {
		data["entries"] = entries
	}
	resp, err := m.Call(enginetest.Update, "evidence/check", data)
	require.Equal(m.T, 409, enginetest.Code(resp, err), "%v", err)
	return resp.Data["data"].(map[string]any), err.Error()
}

// After storage went back the answer says how many entries are missing, and with these
// handed in which keys and tenants came back, also once the log has grown again. Entries
// that are not the kept log's are refused.
func TestCheckListsWhatCameBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		m.DestroyAtOnce()
		rotated, shredded, untouched := enginetest.TenantN(0), enginetest.TenantN(1), enginetest.TenantN(2)
		for _, id := range []string{rotated, shredded, untouched} {
			m.Must(enginetest.Update, "tenants/"+id, nil)
			m.Must(enginetest.Update, "tenants/"+id+"/secrets/a", enginetest.Secret("v"))
		}
		m.Must(enginetest.Update, "tenants/"+shredded+"/encrypt", map[string]any{"plaintext": "c2VjcmV0"})
		m.Must(enginetest.Update, "tenants/"+untouched+"/dek/rotate", nil) // its first key is gone before
		enginetest.Advance(time.Minute)
		keyOf := func(id string) any { return m.Must(enginetest.Read, "tenants/"+id, nil)["current_key_id"] }
		first, gone, kek := keyOf(rotated), keyOf(shredded), m.Must(enginetest.Read, "kek", nil)["kek_id"]
		snapshot := m.Disk.Clone()
		_, before := keptLog(m)

		m.Must(enginetest.Update, "tenants/"+rotated+"/dek/rotate", nil)
		enginetest.Advance(time.Minute)
		m.Must(enginetest.Delete, "tenants/"+shredded, map[string]any{"deletion_window": 0})
		m.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(time.Minute)
		checkpoint, leaves := keptLog(m)
		more := int64(len(leaves) - len(before))
		for _, kept := range []string{checkpoint, strings.TrimSuffix(checkpoint, "\n")} { // as $(…) of a shell leaves it
			consistent := m.Must(enginetest.Update, "evidence/check", map[string]any{"checkpoint": kept, "entries": leaves})
			require.Equal(t, true, consistent["consistent"])
		}
		later := strings.Replace(checkpoint, "/1\n", "/2\n", 1) // signed by a key that is gone with its log
		lost, why := checked(m, later, leaves)
		require.Equal(t, map[string]any{
			"consistent": false, "size": int64(len(leaves)), "missing": int64(len(leaves)), "keys": nil, "tenants": nil,
		}, lost)
		require.Contains(t, why, "storage went back; it was log 2 of this mount, which has log 1 now")
		m.Close()

		m = enginetest.OpenMount(t, snapshot, 0, storagetest.None)
		defer m.Close()
		body, message := checked(m, checkpoint, nil)
		require.Equal(t, map[string]any{
			"consistent": false, "size": int64(len(before)), "missing": more, "keys": nil, "tenants": nil,
		}, body)
		require.Contains(t, message, "dek evidence verify DIR --repair")

		cameBack := func(entries []any) {
			t.Helper()
			body, _ := checked(m, checkpoint, entries)
			require.Equal(t, []string{shredded}, body["tenants"])
			require.Equal(t, more, body["missing"])
			var keys [][]any
			for _, key := range body["keys"].([]map[string]any) {
				keys = append(keys, []any{key["tenant_id"], key["version"], key["key_id"], key["which"]})
			}
			placement := slices.IndexFunc(keys, func(key []any) bool { return key[3] == "placement" })
			require.Equal(t, []any{shredded, nil}, keys[placement][:2])
			want := [][]any{
				{rotated, int64(1), first, "page"},
				{shredded, int64(1), gone, "page"},
				{shredded, int64(1), gone, "external"},
				{nil, nil, kek, "kek"},
			}
			require.ElementsMatch(t, want, slices.Delete(keys, placement, placement+1))
		}
		cameBack(leaves)
		cameBack(leaves[len(before):])

		refused := func(entries any) {
			t.Helper()
			m.Refused(400, "entries", enginetest.Update, "evidence/check", map[string]any{"checkpoint": checkpoint, "entries": entries})
		}
		swapped := slices.Clone(leaves)
		swapped[len(swapped)-1], swapped[len(swapped)-2] = swapped[len(swapped)-2], swapped[len(swapped)-1]
		changed := slices.Clone(leaves)
		changed[len(changed)-1] = "e30="
		for _, entries := range []any{
			leaves[len(before)+1:], leaves[:len(leaves)-1], append(slices.Clone(leaves), leaves[0]), swapped, changed,
			[]any{},
			"x",
			[]any{"%"},
			[]any{""},
			[]any{7},
			[]any{strings.Repeat("A", 40_000)},
			slices.Repeat([]any{"e30="}, 10_001),
		} {
			refused(entries)
		}

		// The log grows again, beyond the kept one, and is another one from there on.
		for range more + 3 {
			m.Must(enginetest.Update, "tenants/"+untouched, map[string]any{"rotation_paused": m.Must(enginetest.Read, "tenants/"+untouched, nil)["rotation_paused"] != true})
		}
		body, _ = checked(m, checkpoint, nil)
		require.Equal(t, int64(0), body["missing"], "how many only the entries say")
		cameBack(leaves)
		cameBack(leaves[len(before):])
		refused(leaves[len(before)+1:])

		// What is taken away again is not told any more.
		m.Must(enginetest.Delete, "tenants/"+shredded, map[string]any{"deletion_window": 0})
		m.Must(enginetest.Update, "tenants/"+rotated+"/dek/rotate", nil)
		m.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(time.Minute)
		body, _ = checked(m, checkpoint, leaves)
		require.Empty(t, body["keys"])
		require.Empty(t, body["tenants"])
		m.Verified()
	})
}
