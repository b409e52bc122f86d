// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package snapshot

import (
	"crypto/rand"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// The tenants of a snapshot.
var (
	deleting = enginetest.TenantN(3)
	shredded = enginetest.TenantN(4)
	owned    = enginetest.TenantN(5) // its keys are under a KEK of its own
	tenants  = []string{enginetest.TenantID, enginetest.TenantN(1), enginetest.TenantN(2), owned, deleting}
)

// TestMakeSnapshot makes the storage of a release, with an entry of every kind. Without
// SNAPSHOT it is thrown away once it was read back.
func TestMakeSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := made(t)
		m := open(t, r.disk(), r.clock())
		r.readsBack(t, m)
		m.Close()
		if name := os.Getenv("SNAPSHOT"); name != "" {
			r.write(t, filepath.Join("testdata", name+".json.gz"))
		}
	})
}

func made(t *testing.T) *release {
	m := enginetest.NewMount(t)
	r := &release{Items: map[string]any{}, Deleted: map[string]any{}, Ciphertexts: map[string]map[string]string{}}
	m.Must(enginetest.Update, "config", map[string]any{"org_id": "acme", "manual_rotations_per_hour": 0, "rotation_parallelism": 1})
	m.Must(enginetest.Update, "config", map[string]any{"data_key_lease": "30m"}) // the longer one is kept
	m.Must(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
	m.Must(enginetest.Update, "tenants/"+enginetest.TenantID, map[string]any{"display_name": "Acme"})
	m.Must(enginetest.Update, "tenants/"+tenants[1], map[string]any{"key_type": "aes256-gcm"})
	m.Must(enginetest.Update, "tenants/"+tenants[2], map[string]any{"rotation_interval": "30d", "rotation_paused": true})
	m.Must(enginetest.Update, "tenants/"+deleting, nil)
	m.Must(enginetest.Update, "tenants/"+shredded, nil)
	m.Provide(nil)
	m.Must(enginetest.Update, "tenants/"+owned, map[string]any{"key_provider": enginetest.ProviderName})
	for _, tenant := range tenants {
		fill(m, tenant)
		sealed := m.Must(enginetest.Update, "tenants/"+tenant+"/encrypt", map[string]any{"plaintext": "c2VjcmV0"})
		r.Ciphertexts[tenant] = map[string]string{"c2VjcmV0": sealed["ciphertext"].(string)}
	}
	m.Must(enginetest.Update, "rotations", map[string]any{"all": true, "include_paused": true, "reason": "a key leaked"})
	m.Tick()
	settle()
	m.Must(enginetest.Update, enginetest.TenantPath("/dek/import"), m.Imports([]byte("a key of its owner, of 32 bytes.")))
	settle()
	m.Must(enginetest.Update, "kek/rotate", map[string]any{"reason": "yearly"})
	settle()
	m.Must(enginetest.Update, "wrapping_key/rotate", nil)
	bulk(m, enginetest.TenantID)
	for n := range 30 { // on most of the pages, of which two lose their deltas below
		bulk := enginetest.ItemPath(fmt.Sprintf("bulk/%d", n))
		m.Must(enginetest.Update, bulk, enginetest.Secret("in the delta"))
		m.Must(enginetest.Update, bulk, enginetest.Secret("in the delta again"))
	}
	m.Must(enginetest.Delete, "tenants/"+shredded, map[string]any{"deletion_window": 0})

	m.Must(enginetest.Update, enginetest.HolderPath("orders"), map[string]any{"description": "a table"})
	m.Must(enginetest.Update, enginetest.HolderPath("orders")+"/report", map[string]any{"oldest_version": 1})
	m.Must(enginetest.Update, enginetest.TenantPath("/dek/config"), map[string]any{"follow_holders": true})
	r.Paused = pausedTogether(m, enginetest.TenantID, tenants[1], tenants[2])
	for _, tenant := range tenants {
		for _, kind := range []string{"credentials", "apiKeys", "secrets"} {
			names, _ := m.Must(enginetest.List, "tenants/"+tenant+"/"+kind, nil)["keys"].([]string)
			for _, name := range names {
				path := "tenants/" + tenant + "/" + kind + "/" + name
				r.Items[path] = item(t, m, path)
			}
		}
	}
	delete(r.Ciphertexts, deleting)
	for path := range r.Items {
		if strings.HasPrefix(path, "tenants/"+deleting) {
			r.Deleted[path] = r.Items[path]
			delete(r.Items, path)
		}
	}
	require.Len(t, r.Deleted, 4)
	require.Greater(t, len(r.Items), 50)
	m.Must(enginetest.Delete, "tenants/"+deleting, map[string]any{"deletion_window": "720h"})
	settle()
	require.NotEmpty(t, m.DeltaKeys())
	cosigned(m)
	r.takenWithin(m)
	m.Close()
	return r
}

// pausedTogether pauses a rotation of each of three tenants, that of the first once two
// pages have moved. The latter two share an entry of the write-ahead log.
func pausedTogether(m *enginetest.Mount, tenants ...string) (rotations []string) {
	put := make(chan struct{})
	m.Storage.Hook(func(op, key string) {
		if op == "put" && strings.HasPrefix(key, "wal/") {
			<-put
		}
	})
	<-m.Engine.Pages.Request()
	var answers []chan enginetest.Answered
	for _, tenant := range tenants {
		answers = append(answers, m.Concurrently(enginetest.Update, "tenants/"+tenant+"/dek/rotate", nil))
		synctest.Wait()
	}
	close(put)
	for n, a := range answers {
		answer := <-a
		require.NoError(m.T, answer.Err)
		rotations = append(rotations, tenants[n]+"/"+answer.Resp.Data["rotation_id"].(string))
	}
	m.Storage.Hook(nil)
	pause := func(rotation string) {
		tenant, id, _ := strings.Cut(rotation, "/")
		m.Must(enginetest.Update, "tenants/"+tenant+"/dek/rotations/"+id+"/pause", nil)
	}
	for _, rotation := range rotations[1:] {
		pause(rotation)
	}
	slowly(m, "pages/")
	m.Engine.Pages.Release()
	synctest.Wait() // the first page is being put, and the second asks for the place
	<-m.Engine.Pages.Request()
	pause(rotations[0])
	m.Engine.Pages.Release()
	settle()
	m.Storage.Hook(nil)
	return rotations
}

// cosigned has a witness sign the checkpoint of the evidence log.
func cosigned(m *enginetest.Mount) {
	secret, public, err := note.GenerateKey(rand.Reader, "witness.example")
	require.NoError(m.T, err)
	vkey, err := cosignature.VKeyToCosignatureV1(public)
	require.NoError(m.T, err)
	signer, err := cosignature.NewSignerForCosignatureV1(secret)
	require.NoError(m.T, err)
	m.Must(enginetest.Update, "evidence/witnesses", map[string]any{"witnesses": []string{vkey}})
	checkpoint := m.Must(enginetest.Read, "evidence/checkpoint", nil)["checkpoint"].(string)
	text, _, _ := strings.Cut(checkpoint, "\n\n")
	signed, err := note.Sign(&note.Note{Text: text + "\n"}, signer)
	require.NoError(m.T, err)
	_, line, _ := strings.Cut(string(signed), "\n\n")
	m.Must(enginetest.Update, "evidence/cosign", map[string]any{"cosignature": line})
}

// slowly has the first Put below a prefix take so long that how far the work is is noted.
func slowly(m *enginetest.Mount, prefix string) {
	var once sync.Once
	m.Storage.Hook(func(op, key string) {
		if op == "put" && strings.HasPrefix(key, prefix) {
			once.Do(func() { <-time.After(2 * time.Second) })
		}
	})
}

// takenWithin takes what is in storage while the keys move to another KEK, some of them.
func (r *release) takenWithin(m *enginetest.Mount) {
	slowly(m, "keys/")
	var moved atomic.Int32
	m.Storage.Done(func(op, key string) {
		if op != "put" || !strings.HasPrefix(key, "keys/") || moved.Add(1) != 8 {
			return
		}
		r.MadeAt, r.Entries = time.Now(), map[string][]byte{}
		for _, key := range m.Disk.Keys("") {
			r.Entries[key] = m.Disk.Value(key)
		}
	})
	m.Must(enginetest.Update, "kek/rotate", nil)
	settle()
	m.Storage.Hook(nil)
	m.Storage.Done(nil)
	require.NotEmpty(m.T, r.Entries)
	for _, prefix := range []string{
		"config", "evidence/cosignatures/", "evidence/epochs/", "evidence/keys/", "evidence/log/", "evidence/people/", "evidence/person_ids/", "evidence/reasons/",
		"evidence/started", "evidence/witnesses", "history/", "import/current", "import/keys/", "kek/current", "kek/keys/", "kek/progress", "keys/", "pages/", "progress/",
		"providers/", "seals/", "settings", "tenantkeks/", "tenants/", "tombstones/", "uses/", "wal/",
	} {
		require.True(m.T, slices.ContainsFunc(slices.Collect(maps.Keys(r.Entries)), func(key string) bool {
			return strings.HasPrefix(key, prefix)
		}), prefix)
	}
	shared := 0
	for key, value := range r.Entries {
		if strings.HasPrefix(key, "wal/") && strings.Contains(string(value), `"shared"`) {
			shared++
		}
	}
	require.Equal(m.T, 1, shared)
}

// fill writes items of each kind, one with metadata alone.
func fill(m *enginetest.Mount, tenant string) {
	for _, kind := range []string{"credentials", "apiKeys", "secrets"} {
		m.Must(enginetest.Update, "tenants/"+tenant+"/"+kind+"/db/main", map[string]any{
			"data":     map[string]any{"password": "ünïcode", "port": 5432, "nested": map[string]any{"list": []any{1, "two", nil, true}}},
			"metadata": map[string]any{"owner": "billing"},
		})
		m.Must(logical.PatchOperation, "tenants/"+tenant+"/"+kind+"/db/main", map[string]any{"data": map[string]any{"port": 5433}})
	}
	m.Must(enginetest.Update, "metadata/"+tenant+"/secrets/planned", map[string]any{"custom_metadata": map[string]any{"owner": "billing"}})
}

// bulk writes so many items that pages split.
func bulk(m *enginetest.Mount, tenant string) {
	var items []any
	for i := range 100 {
		name := fmt.Sprintf("bulk/%d", i)
		items = append(items, map[string]any{"kind": "secrets", "name": name, "data": map[string]any{"value": enginetest.Filler(name, 1500)}})
	}
	m.Must(enginetest.Update, "tenants/"+tenant+"/items", map[string]any{"items": items})
}
