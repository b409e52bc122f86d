// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package snapshot

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
)

// release is the storage of a mount, and what must be read from it.
type release struct {
	MadeAt  time.Time
	Entries map[string][]byte

	Items       map[string]any               // by path, as they are read but for the key version
	Deleted     map[string]any               // those of the tenant that can be restored
	Ciphertexts map[string]map[string]string // by tenant, by plaintext
	Paused      []string                     // the rotations that are under way
}

func (r *release) write(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	require.NoError(t, err)
	z := gzip.NewWriter(f)
	require.NoError(t, json.NewEncoder(z).Encode(r))
	require.NoError(t, z.Close())
	require.NoError(t, f.Close())
}

func read(t *testing.T, path string) (r release) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	require.NoError(t, json.NewDecoder(z).Decode(&r))
	return r
}

// settle lets what runs in the background go on, in fake time.
func settle() { enginetest.Advance(time.Minute) }

// clock goes on from when the release was made. Time begins anew in each test.
func (r *release) clock() func() time.Time {
	began := time.Now()
	return func() time.Time { return r.MadeAt.Add(time.Since(began)) }
}

func (r *release) disk() *storagetest.Disk {
	disk := storagetest.NewDisk()
	for key, value := range r.Entries {
		disk.Set(key, value)
	}
	return disk
}

// open starts an engine on a disk.
func open(t *testing.T, disk *storagetest.Disk, clock func() time.Time) *enginetest.Mount {
	t.Helper()
	m := enginetest.Conditions{Clock: clock}.Open(t, disk, 0, storagetest.None)
	m.Start()
	return m
}

// item is an item as it is read, but for the version of its key.
func item(t *testing.T, m *enginetest.Mount, path string) any {
	t.Helper()
	data := m.Must(enginetest.Read, path, nil)
	delete(data, "key_version")
	encoded, err := json.Marshal(data)
	require.NoError(t, err)
	var same any
	require.NoError(t, json.Unmarshal(encoded, &same))
	return same
}

// readsBack reads every item and opens every ciphertext.
func (r *release) readsBack(t *testing.T, m *enginetest.Mount) {
	t.Helper()
	require.Len(t, m.Must(enginetest.Read, "evidence/witnesses", nil)["witnesses"], 1)
	require.NotEmpty(t, m.Must(enginetest.Read, "evidence/checkpoint", nil)["cosigned"], "a witness signed one")
	for path, want := range r.Items {
		require.Equal(t, want, item(t, m, path), path)
	}
	for tenant, texts := range r.Ciphertexts {
		for plaintext, ciphertext := range texts {
			opened := m.Must(enginetest.Update, "tenants/"+tenant+"/decrypt", map[string]any{"ciphertext": ciphertext})
			require.Equal(t, plaintext, opened["plaintext"])
		}
	}
}

// TestReleasesAreOpened opens what each release has stored, goes on with what was under
// way, rotates every key and deletes everything.
func TestReleasesAreOpened(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json.gz")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { goesOn(t, read(t, file)) }) })
	}
}

func goesOn(t *testing.T, r release) {
	clock := r.clock()
	m := open(t, r.disk(), clock)
	defer func() { m.Close() }()
	r.readsBack(t, m)

	settle()
	require.Equal(t, "completed", m.Must(enginetest.Read, "kek", nil)["status"], "the move that was under way")
	for _, rotation := range r.Paused {
		tenant, id, _ := strings.Cut(rotation, "/")
		path := "tenants/" + tenant + "/dek/rotations/" + id
		m.Must(enginetest.Update, path+"/resume", nil)
		settle()
		require.Equal(t, "completed", m.Must(enginetest.Read, path, nil)["status"], tenant)
	}
	r.readsBack(t, m)

	m.Must(enginetest.Update, "tenants/"+deleting+"/restore", nil)
	for path, want := range r.Deleted {
		require.Equal(t, want, item(t, m, path), path)
	}
	for _, tenant := range tenants {
		m.Must(enginetest.Update, "tenants/"+tenant+"/secrets/new", enginetest.Secret("new"))
		m.Must(enginetest.Update, "tenants/"+tenant+"/dek/rotate", nil)
		settle()
		require.Equal(t, "completed", m.RotationsOf(tenant)[0]["status"], tenant)
	}
	m.Must(enginetest.Update, "kek/rotate", nil)
	settle()
	require.Equal(t, "completed", m.Must(enginetest.Read, "kek", nil)["status"])
	r.readsBack(t, m)

	m.Close()
	m = open(t, m.Disk, clock)
	r.readsBack(t, m)
	m.Verified()
	for _, tenant := range tenants {
		m.Must(enginetest.Delete, "tenants/"+tenant, map[string]any{"deletion_window": 0})
	}
	settle()
	require.Empty(t, m.Disk.Keys("pages/"))
	require.Empty(t, m.Disk.Keys("keys/"))
	require.Empty(t, m.Disk.Keys("tenantkeks/"))
	require.Empty(t, m.Disk.Keys("wal/"))
	require.Len(t, m.Must(enginetest.List, "tombstones", nil)["keys"], len(tenants)+1)
}

// TestThisVersionHasASnapshot misses the one of a version that is about to be released.
func TestThisVersionHasASnapshot(t *testing.T) {
	require.FileExists(t, filepath.Join("testdata", version.Version()+".json.gz"), "docs/releasing.md says how it is made")
}

// TestNewerReleasesAreLeftAlone opens what each release has stored as if a later version
// had raised the number of its formats: nothing is done with it, in a week either.
func TestNewerReleasesAreLeftAlone(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json.gz")
	require.NoError(t, err)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := read(t, file)
				r.Entries["format"] = []byte(`{"format":2}`)
				m := open(t, r.disk(), r.clock())
				for range 7 {
					enginetest.Advance(24 * time.Hour)
					m.Tick()
				}
				_, err := m.Call(enginetest.Read, "tenants/"+tenants[0], nil)
				require.ErrorContains(t, err, "newer version of the plugin")
				m.Close()
				require.Len(t, m.Disk.Keys(""), len(r.Entries))
				for key, value := range r.Entries {
					require.Equal(t, value, m.Disk.Value(key), key)
				}
			})
		})
	}
}
