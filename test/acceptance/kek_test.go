// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

var kekIDForm = regexp.MustCompile(`^kek-` + canonicalUUID + `$`)

// crowd is the tenants of one mount, each with an item and a ciphertext.
type crowd struct {
	s           *devstack.Stack
	mount       string
	ids         []string
	ciphertexts []string
}

func newCrowd(t *testing.T, s *devstack.Stack, mount string, n int) *crowd {
	t.Helper()
	f := &crowd{s, mount, make([]string, n), make([]string, n)}
	f.each(t, func(i int) {
		f.ids[i] = uuid.NewString()
		assert.Equal(t, http.StatusOK, f.call(t, i, http.MethodPut, "", map[string]any{}).Status)
		a := f.call(t, i, http.MethodPut, "/secrets/own", map[string]any{"data": map[string]any{"v": f.ids[i]}})
		assert.Equal(t, http.StatusOK, a.Status, a.errors())
		f.ciphertexts[i], _ = f.call(t, i, http.MethodPut, "/encrypt", map[string]any{"plaintext": "aGVsbG8="}).data()["ciphertext"].(string)
	})
	return f
}

// each calls f for every tenant, some at a time.
func (f *crowd) each(t *testing.T, do func(i int)) {
	t.Helper()
	var wg sync.WaitGroup
	places := make(chan struct{}, 8)
	for i := range f.ids {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			do(i)
		})
	}
	wg.Wait()
}

func (f *crowd) call(t *testing.T, i int, method, path string, body any) answer {
	t.Helper()
	return callRoot(t, f.s, method, f.mount+"/tenants/"+f.ids[i]+path, body)
}

// opens checks that everything of every tenant opens.
func (f *crowd) opens(t *testing.T) {
	t.Helper()
	f.each(t, func(i int) {
		a := f.call(t, i, http.MethodGet, "/secrets/own", nil)
		assert.Equal(t, map[string]any{"v": f.ids[i]}, a.data()["data"], a.errors())
		a = f.call(t, i, http.MethodPut, "/decrypt", map[string]any{"ciphertext": f.ciphertexts[i]})
		assert.Equal(t, "aGVsbG8=", a.data()["plaintext"], a.errors())
	})
}

func (f *crowd) kek(t *testing.T) map[string]any {
	t.Helper()
	return succeeded(t, callRoot(t, f.s, http.MethodGet, f.mount+"/kek", nil))
}

func (f *crowd) untilKEK(t *testing.T, status string) map[string]any {
	t.Helper()
	var last map[string]any
	require.Eventually(t, func() bool {
		last = callRoot(t, f.s, http.MethodGet, f.mount+"/kek", nil).data()
		return last["status"] == status
	}, rotationLimit, rotationTick, "the KEK: %v", last)
	return last
}

func TestContractKEK(t *testing.T) {
	s := shared(t)
	mount := withMount(t, s)
	for _, c := range []struct{ method, path string }{{http.MethodGet, "/kek"}, {http.MethodPut, "/kek/rotate"}} {
		refused(t, callRoot(t, s, c.method, mount+c.path, nil), http.StatusNotFound, "key-encryption key")
	}
	const tenants = 60
	f := newCrowd(t, s, mount, tenants)
	object := fields{
		"kek_id": matches(kekIDForm), "created_at": isTime, "age": isNumber, "older_kek_ids": is([]any{}),
		"status": is("not_rotated"), "previous_kek_id": is(""), "reason": is(""), "percent": is(0.0),
		"started_at": isNull, "updated_at": isNull, "completed_at": isNull,
		"provider": is(""), "state": is(""), "lease_until": isNull, "waiting_for": isNull,
		"tenants": is(0.0), "keys": is(0.0), "keys_failed": is(0.0), "failures": is([]any{}),
		"initiated_by": is(map[string]any{"id": "", "name": "", "email": ""}),
	}
	first := f.kek(t)
	object.check(t, first)

	a := callRoot(t, s, http.MethodPut, mount+"/config", map[string]any{"rotation_parallelism": 1})
	require.Less(t, a.Status, 300, a.errors())
	previous, key := first["kek_id"], "mine"
	var kek any
	var conflict answer
	// On a busy machine a rotation may be over before the next request comes. That starts
	// another, and it is tried again after it.
	for tries := range 5 {
		started := succeeded(t, callRoot(t, s, http.MethodPut, mount+"/kek/rotate", map[string]any{"reason": "yearly", "idempotency_key": key}))
		kek = started["kek_id"]
		if conflict = callRoot(t, s, http.MethodPut, mount+"/kek/rotate", nil); conflict.Status != http.StatusOK {
			break
		}
		previous, key = f.untilKEK(t, "completed")["kek_id"], fmt.Sprint("mine ", tries)
	}
	refused(t, conflict, http.StatusConflict, kek.(string))
	assert.Equal(t, map[string]any{"kek_id": kek}, conflict.data())
	same := succeeded(t, callRoot(t, s, http.MethodPut, mount+"/kek/rotate", map[string]any{"idempotency_key": key}))
	assert.Equal(t, kek, same["kek_id"])

	ended := f.untilKEK(t, "completed")
	for field, c := range map[string]check{
		"kek_id": is(kek), "previous_kek_id": is(previous), "status": is("completed"), "reason": is("yearly"),
		"started_at": isTime, "updated_at": isTime, "completed_at": isTime,
		"percent": is(100.0), "tenants": is(float64(tenants)), "keys": is(3.0 * tenants),
		"initiated_by": is(map[string]any{"id": "root", "name": "root", "email": ""}),
	} {
		object[field] = c
	}
	object.check(t, ended)
	f.opens(t)

	t.Run("refused", func(t *testing.T) {
		before := f.kek(t)
		for field, value := range map[string]any{"reason": []string{"a"}, "idempotency_key": strings.Repeat("x", 513)} {
			refused(t, callRoot(t, s, http.MethodPut, mount+"/kek/rotate", map[string]any{field: value}), http.StatusBadRequest, field)
		}
		refused(t, callRoot(t, s, http.MethodGet, mount+"/kek/rotate", nil), http.StatusMethodNotAllowed)
		after := f.kek(t)
		delete(before, "age")
		delete(after, "age")
		assert.Equal(t, before, after)
	})
}

// TestCrashDuringRotationOfTheKEK kills the plugin, and then Vault with it, while
// the keys of many tenants move to another KEK.
func TestCrashDuringRotationOfTheKEK(t *testing.T) {
	s := start(t, devstack.Options{Storage: devstack.Raft, NoProxy: true})
	f := newCrowd(t, s, "dek", 250)
	a := callRoot(t, s, http.MethodPut, "dek/config", map[string]any{"rotation_parallelism": 1})
	require.Less(t, a.Status, 300, a.errors())
	for name, crash := range map[string]func(){
		"the plugin": func() { require.NoError(t, s.KillPlugin()) },
		"Vault": func() {
			s.KillVault()
			require.NoError(t, s.RestartVault(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ended := f.crashDuringKEK(t, crash)
			assert.Equal(t, []any{}, ended["older_kek_ids"])
			assert.GreaterOrEqual(t, ended["keys"], 750.0)
			f.opens(t)
		})
	}
}

// crashDuringKEK crashes something in the middle of a rotation of the KEK, and returns how
// that ended. One that a busy machine lets end before the crash is followed by another.
func (f *crowd) crashDuringKEK(t *testing.T, crash func()) map[string]any {
	t.Helper()
	for range 5 {
		succeeded(t, callRoot(t, f.s, http.MethodPut, f.mount+"/kek/rotate", nil))
		require.Eventually(t, func() bool {
			moved, _ := f.kek(t)["keys"].(float64)
			return moved > 50
		}, rotationLimit, time.Millisecond)
		at := time.Now()
		crash()
		require.Eventually(t, func() bool {
			return callRoot(t, f.s, http.MethodGet, f.mount+"/kek", nil).Status == http.StatusOK
		}, goneLimit, rotationTick)
		ended := f.untilKEK(t, "completed")
		if parsedTime(t, ended["completed_at"]).After(at) {
			return ended
		}
	}
	require.Fail(t, "each rotation was over before the crash")
	return nil
}
