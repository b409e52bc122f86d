// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// beneath is a mount whose KEK is under a provider, with a tenant that has items and keys of
// every kind.
func beneath(t *testing.T, more map[string]any, f func(w *enginetest.Oracle)) {
	t.Helper()
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		w := enginetest.NewOracle(m)
		w.Put("a", "1")
		w.Bulk(20, 3000)
		w.Encrypt("outside")
		m.Provide(more)
		m.MoveKEK(enginetest.ProviderName)
		f(w)
	})
}

// openedAnew starts an engine anew on what is stored.
func openedAnew(w *enginetest.Oracle) *enginetest.Oracle {
	w.T.Helper()
	w.Close()
	n := w.On(enginetest.OpenMount(w.T, w.Disk, 0, storagetest.None))
	w.T.Cleanup(n.Close)
	return n
}

// refusedEverywhere makes a request of every kind, of which each needs a key.
func refusedEverywhere(w *enginetest.Oracle, code int) {
	w.T.Helper()
	text := w.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["current_version"]
	for _, r := range []struct {
		op   string
		path string
		body map[string]any
	}{
		{"read", enginetest.ItemPath("a"), nil},
		{"update", enginetest.ItemPath("a"), enginetest.Secret("2")},
		{"update", enginetest.ItemPath("b"), enginetest.Secret("2")},
		{"patch", enginetest.ItemPath("a"), enginetest.Secret("2")},
		{"delete", enginetest.ItemPath("a"), nil},
		{"list", enginetest.TenantPath("/secrets"), nil},
		{"update", enginetest.TenantPath("/items"), map[string]any{"items": []any{
			map[string]any{"kind": "secrets", "name": "a", "data": map[string]any{"value": "2"}},
		}}},
		{"update", enginetest.TenantPath("/items/read"), map[string]any{"items": []any{map[string]any{"kind": "secrets", "name": "a"}}}},
		{"update", enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "eA=="}},
		{"update", enginetest.TenantPath("/encrypt"), map[string]any{"batch_input": []any{map[string]any{"plaintext": "eA=="}}}},
		{"update", enginetest.TenantPath("/datakey/plaintext"), nil},
		{"update", enginetest.TenantPath("/dek/rotate"), nil},
		{"update", "tenants/" + enginetest.OtherTenant, nil},
		{"update", "kek/rotate", map[string]any{"provider": ""}},
		{"update", "kek/rotate", nil},
	} {
		resp, err := w.Call(logical.Operation(r.op), r.path, r.body)
		require.Equal(w.T, code, enginetest.Code(resp, err), "%s %s of version %v: %v", r.op, r.path, text, err)
		require.ErrorContains(w.T, err, "key provider "+enginetest.ProviderName)
	}
}

// A provider that denies takes effect when the lease has ended, everywhere, after a
// restart too. When it no longer denies everything is as it was.
func TestDenialEndsEveryUse(t *testing.T) {
	beneath(t, nil, func(w *enginetest.Oracle) {
		w.ReadsBack()
		w.Transit.Set(providertest.Denies)
		w.ReadsBack() // the lease lasts
		enginetest.Advance(enginetest.ProviderLease + time.Second)
		refusedEverywhere(w, 424)
		w.DropPages()
		refusedEverywhere(w, 424)
		require.Equal(w.T, "denied", w.Must(enginetest.Read, "kek", nil)["state"])

		w = openedAnew(w)
		w.Transit.Set(providertest.Denies)
		refusedEverywhere(w, 424)
		w.Transit.Set(providertest.Works)
		enginetest.Advance(11 * time.Second)
		w.ReadsBack()
		w.Opens()
		w.AtRest()
	})
}

// A use before the lease ends asks for another, and a denial then counts at once.
func TestDenialAtTheRenewalCountsAtOnce(t *testing.T) {
	beneath(t, nil, func(w *enginetest.Oracle) {
		enginetest.Advance(enginetest.ProviderLease * 95 / 100)
		w.Transit.Set(providertest.Denies)
		// The provider is asked behind this read, which it may overtake.
		if resp, err := w.Call(enginetest.Read, enginetest.ItemPath("a"), nil); enginetest.Code(resp, err) != 424 {
			require.NoError(w.T, err)
		}
		enginetest.Advance(time.Millisecond)
		refusedEverywhere(w, 424)
	})
}

// What is in memory is used without its KEK, and renews the KEK's lease all the same: as long
// as it is used no request waits for the provider.
func TestUseOfWhatIsInMemoryRenewsTheLease(t *testing.T) {
	for name, use := range map[string]func(w *enginetest.Oracle){
		"an item":      func(w *enginetest.Oracle) { w.Must(enginetest.Read, enginetest.ItemPath("a"), nil) },
		"a ciphertext": func(w *enginetest.Oracle) { w.Opens() },
	} {
		t.Run(name, func(t *testing.T) {
			beneath(t, nil, func(w *enginetest.Oracle) {
				use(w) // opens what it needs
				for range 5 {
					began := w.Transit.Calls()
					enginetest.Advance(enginetest.ProviderLease * 95 / 100)
					use(w)
					enginetest.Advance(time.Millisecond)
					require.EqualValues(w.T, began+1, w.Transit.Calls(), "it is renewed behind it")
				}
				w.Transit.Set(providertest.Sealed)
				enginetest.Advance(enginetest.ProviderLease * 6 / 10)
				use(w)
			})
		})
	}
}

// A renewal that storage refuses is tried again in a while, not with each use.
func TestFailedRenewalsPause(t *testing.T) {
	beneath(t, nil, func(w *enginetest.Oracle) {
		use := func() {
			w.Must(enginetest.Read, enginetest.ItemPath("a"), nil)
			enginetest.Advance(time.Millisecond)
		}
		use()
		enginetest.Advance(enginetest.ProviderLease * 95 / 100)
		var tries atomic.Int32
		w.Storage.Hook(func(op, key string) {
			if op == "get" && strings.HasPrefix(key, "kek/keys/") {
				tries.Add(1)
			}
		})
		w.Storage.Fail(enginetest.FailOn("get", "kek/keys/", storagetest.Before))
		for range 100 {
			use()
		}
		require.EqualValues(w.T, 1, tries.Load())
		enginetest.Advance(time.Second)
		use()
		require.EqualValues(w.T, 2, tries.Load())
		w.Storage.Hook(nil)
		w.Storage.Fail(nil)
		enginetest.Advance(time.Second)
		use()
		enginetest.Advance(enginetest.ProviderLease / 2)
		use()
	})
}

// What a caller may do with a data key ends with the lease of the KEK above it.
func TestDataKeyEndsWithTheLease(t *testing.T) {
	beneath(t, nil, func(w *enginetest.Oracle) {
		lease := func() any {
			return w.Must(enginetest.Update, enginetest.TenantPath("/datakey/plaintext"), nil)["lease"]
		}
		w.Transit.Set(providertest.Sealed)
		first := lease().(int64)
		require.InDelta(w.T, 59, first, 1, "moving in took a second")
		enginetest.Advance(20 * time.Second)
		require.InDelta(w.T, first-20, lease(), 1)
		w.Transit.Set(providertest.Works)
		w.MoveKEK("")
		require.EqualValues(w.T, 3600, lease())
	})
}

func TestUnavailableProviderHasGrace(t *testing.T) {
	beneath(t, map[string]any{"grace": "10m"}, func(w *enginetest.Oracle) {
		for _, mode := range []providertest.Mode{providertest.Sealed, providertest.Hangs, providertest.OtherKey, providertest.Lies, providertest.Garbage} {
			w.Transit.Set(mode)
			enginetest.Advance(enginetest.ProviderLease + time.Second)
			w.ReadsBack()
			enginetest.Advance(9 * time.Minute)
			w.ReadsBack()
			enginetest.Advance(time.Minute)
			refusedEverywhere(w, 503)
			w.Transit.Set(providertest.Works)
			enginetest.Advance(11 * time.Second)
			w.ReadsBack()
			w.Opens()
		}
	})
}

func TestUnavailableProviderWithoutGrace(t *testing.T) {
	beneath(t, nil, func(w *enginetest.Oracle) {
		w.Transit.Set(providertest.Breaks)
		enginetest.Advance(enginetest.ProviderLease + time.Second)
		refusedEverywhere(w, 503)
	})
}

// However many requests wait, there is one call, and more than 64 do not wait.
func TestOneCallForAllWhoWait(t *testing.T) {
	beneath(t, nil, func(w *enginetest.Oracle) {
		enginetest.Advance(enginetest.ProviderLease + time.Second)
		w.Transit.Set(providertest.Hangs)
		before := w.Transit.Calls()
		var many, timedOut atomic.Int64
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				_, err := w.Call(enginetest.Read, enginetest.ItemPath("a"), nil)
				switch {
				case err != nil && err.Error() == "too many requests wait for a key provider":
					many.Add(1)
				case err != nil:
					timedOut.Add(1)
				}
			})
		}
		all.Wait()
		require.Equal(w.T, []int64{36, 64, 1}, []int64{many.Load(), timedOut.Load(), w.Transit.Calls() - before})

		// A refusal serves all who ask for a second, then longer.
		for range 20 {
			_, err := w.Call(enginetest.Read, enginetest.ItemPath("a"), nil)
			require.Error(w.T, err)
		}
		require.EqualValues(w.T, 1, w.Transit.Calls()-before)
	})
}

// A refusal serves all who ask for 1 s, then for longer, up to 10 s.
func TestRefusalsServeForAWhile(t *testing.T) {
	beneath(t, nil, func(w *enginetest.Oracle) {
		enginetest.Advance(enginetest.ProviderLease + time.Second)
		w.Transit.Set(providertest.Denies)
		before := w.Transit.Calls()
		for range 600 { // a minute
			_, err := w.Call(enginetest.Read, enginetest.ItemPath("a"), nil)
			require.Error(w.T, err)
			enginetest.Advance(100 * time.Millisecond)
		}
		require.InDelta(w.T, 9, w.Transit.Calls()-before, 1, "after 0, 1, 3, 7, 15, 25, 35, 45 and 55 s")
	})
}

// A mount in use asks once a lease, however much it does.
func TestOneCallALease(t *testing.T) {
	beneath(t, nil, func(w *enginetest.Oracle) {
		before := w.Transit.Calls()
		const leases = 20
		for n := range 60 * leases {
			w.Put(fmt.Sprint("n", n%7), "1")
			w.DropPages()
			w.ReadsBack()
			enginetest.Advance(time.Second)
		}
		calls := w.Transit.Calls() - before
		require.LessOrEqual(w.T, calls, int64(leases*10/7+1), "a lease is renewed after 7 tenths of it at the earliest")
		require.GreaterOrEqual(w.T, calls, int64(leases))
	})
}
