// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// lostItems names the items of w that cannot be read, for good: 410.
func lostItems(w *enginetest.Oracle) (lost []string) {
	w.T.Helper()
	for item := range w.Allowed {
		switch c := reads(w, item); c {
		case 200:
		case 410:
			lost = append(lost, item)
		default:
			require.Fail(w.T, "reading", "%s: %d", item, c)
		}
	}
	slices.Sort(lost)
	return lost
}

func names(w *enginetest.Oracle, data map[string]any) ([]string, map[string]any) {
	w.T.Helper()
	got := w.Must(enginetest.List, enginetest.TenantPath("/secrets/"), data)
	keys, _ := got["keys"].([]string)
	return keys, got
}

// Once a version was destroyed by force, the pages that are lost with it are replaced,
// and told as lost: names can be written and deleted, lists and rotations work again.
func TestLostPagesAreReplaced(t *testing.T) {
	for name, damage := range map[string]func(w *enginetest.Oracle, page string){
		"does not open": func(w *enginetest.Oracle, page string) {
			value := w.Disk.Value(page)
			value[len(value)-1] ^= 1
			w.Disk.Set(page, value)
		},
		"does not open, nor its header": func(w *enginetest.Oracle, page string) { w.Disk.Set(page, []byte{0xff}) },
		"cannot be read":                func(w *enginetest.Oracle, page string) { damageKey(w, page) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := retained(t, 40)
				defer func() { w.Close() }()
				bad := w.LargestPage()
				damage(w, bad)
				w.Rotate()
				w.Rests(1)
				st := w.Status(w.Rotations[0])
				require.Equal(t, "failed", st["status"])
				require.GreaterOrEqual(t, st["items_failed"], 1)
				_, err := w.Call(enginetest.List, enginetest.TenantPath("/secrets/"), nil)
				require.Error(t, err)
				givesUpAndGoesOn(w, bad)
			})
		})
	}
}

// givesUpAndGoesOn destroys version 1, which page bad is on, and looks at what follows.
func givesUpAndGoesOn(w *enginetest.Oracle, bad string) {
	t := w.T
	w.Must(enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": true})
	w = afresh(w)
	lost := lostItems(w)
	require.NotEmpty(t, lost)
	require.Less(t, len(lost), len(w.Allowed))
	keys, _ := names(w, nil)
	require.Len(t, keys, len(w.Allowed)-len(lost), "a list has the rest")
	_, got := names(w, map[string]any{"partial": true})
	require.Len(t, got["unreadable"], 1, "and names the gap")
	require.Contains(t, bad, "/"+got["unreadable"].([]map[string]any)[0]["place"].(string))

	w.Rotate()
	w.Rests(1)
	st := w.Status(w.Rotations[1])
	require.Equal(t, "completed", st["status"], "%v", st["failures"])
	require.GreaterOrEqual(t, st["items_failed"], 1)
	require.Len(t, st["failures"], 1)
	require.Contains(t, fmt.Sprint(st["failures"]), "by force")
	for _, item := range lost {
		require.Equal(t, 404, reads(w, item))
		w.Allowed[item] = []string{enginetest.Absent}
	}
	w.Put(lost[0], "written anew")
	w.ReadsBack()
	w.Rotate()
	w.Rests(1)
	st = w.Status(w.Rotations[2])
	require.Equal(t, []any{"completed", 0}, []any{st["status"], st["items_failed"]}, "it is told once")
	require.Equal(t, []int64{1, 0}, pagesLost(w), "in evidence, too")
	require.Equal(t, len(keys)+1, st["items_rotated"].(map[string]int)["secrets"])
	w.ReadsBack()
	w.Close()
}

// pagesLost is how many pages each completed rotation of the tenant says that it has lost.
func pagesLost(w *enginetest.Oracle) (lost []int64) {
	w.T.Helper()
	for _, e := range w.Entries(enginetest.TenantID) {
		if done, is := e.Detail.(*evidence.RotationCompleted); is {
			lost = append(lost, done.PagesLost)
		}
	}
	return lost
}

// Before a rotation replaces a lost page, a write or a deletion does. The rotation tells
// of it all the same.
func TestLostNamesAreWrittenAndDeleted(t *testing.T) {
	for name, first := range map[string]func(w *enginetest.Oracle, item string){
		"written": func(w *enginetest.Oracle, item string) {
			w.Put(item, "written anew")
			require.Equal(w.T, 200, reads(w, item))
		},
		"deleted": func(w *enginetest.Oracle, item string) {
			resp, err := w.Call(enginetest.Delete, enginetest.ItemPath(item), nil)
			require.NoError(w.T, err, "%v", resp)
			require.Equal(w.T, 404, reads(w, item))
			w.Allowed[item] = []string{enginetest.Absent}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := retained(t, 40)
				defer func() { w.Close() }()
				damageKey(w, w.LargestPage())
				w.Rotate()
				w.Rests(1)
				w.Must(enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": true})
				w = afresh(w)
				lost := lostItems(w)
				resp, err := w.Call("patch", enginetest.ItemPath(lost[0]), enginetest.Secret("no"))
				require.Equal(t, 410, enginetest.Code(resp, err))
				resp, err = w.Call(enginetest.Delete, enginetest.ItemPath(lost[0]), map[string]any{"cas": 1})
				require.Equal(t, 410, enginetest.Code(resp, err), "nobody knows its revision")
				require.Equal(t, lost, lostItems(w))
				many := w.Must(enginetest.Update, enginetest.TenantPath("/items/read"), map[string]any{
					"items": []any{map[string]any{"kind": "secrets", "name": lost[0]}},
				})["results"].([]map[string]any)
				require.Contains(t, many[0]["error"], "destroyed", "as a read says")
				first(w, lost[0])
				for _, item := range lost[1:] {
					require.Equal(t, 404, reads(w, item))
					w.Allowed[item] = []string{enginetest.Absent}
				}
				w.ReadsBack()
				w.Must(enginetest.Update, enginetest.Action(w.Rotations[0], "retry"), nil)
				w.Rests(1)
				st := w.Status(w.Rotations[0])
				require.Equal(t, "completed", st["status"])
				require.GreaterOrEqual(t, st["items_failed"], 1)
				w.ReadsBack()
			})
		})
	}
}

// A page whose delta alone cannot be read keeps what it had without it.
func TestLostDelta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 40)
		defer func() { w.Close() }()
		for range 10 { // a page of few items gets no delta, and where items lie is random
			if w.Deltas(); len(w.DeltaKeys()) > 0 {
				break
			}
		}
		deltas := w.DeltaKeys()
		require.NotEmpty(t, deltas)
		damageKey(w, deltas[0])
		w = afresh(w)
		w.Rotate()
		w.Rests(1)
		require.Equal(t, "failed", w.Status(w.Rotations[0])["status"])
		w.Must(enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": true})
		w.Rotate()
		w.Rests(1)
		require.Equal(t, "completed", w.Status(w.Rotations[1])["status"])
		require.Empty(t, w.DeltaKeys())
		w.Must(enginetest.List, enginetest.TenantPath("/secrets/"), nil)
	})
}

// A page that was damaged after a version was given up is not: nobody has said so.
func TestPageDamagedLaterIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 40)
		defer func() { w.Close() }()
		w.Rotate()
		w.Rests(1)
		w.Must(enginetest.Update, enginetest.DestroyPath(1), map[string]any{"force": true})
		damageKey(w, w.LargestPage())
		w = afresh(w)
		w.Rotate()
		w.Rests(1)
		require.Equal(t, "failed", w.Status(w.Rotations[1])["status"])
		w.Disk.Heal()
		w.Must(enginetest.Update, enginetest.Action(w.Rotations[1], "retry"), nil)
		w.Rests(1)
		require.Equal(t, "completed", w.Status(w.Rotations[1])["status"])
		w.ReadsBack()
	})
}
