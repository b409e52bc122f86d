// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/torchwood"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

const (
	largeLog     = 100_000
	largeTenants = 4_000 // the first has every tenth entry besides
)

// fill logs many events, in requests of 500.
func fill(t *testing.T, p *process, count int) (perTenant map[int][]int64) {
	t.Helper()
	perTenant = map[int][]int64{}
	var request []evidencelog.Pending
	var tenants []int
	flush := func() {
		at, err := p.Append(t.Context(), request...)
		require.NoError(t, err)
		for i, position := range at {
			perTenant[tenants[i]] = append(perTenant[tenants[i]], position.Index)
		}
		request, tenants = nil, nil
	}
	seqs := map[int]int{}
	for i := range count {
		tenant := i % largeTenants
		if i%10 == 0 {
			tenant = 0
		}
		seqs[tenant]++
		request, tenants = append(request, pending(event(tenant, seqs[tenant]), true)), append(tenants, tenant)
		if len(request) == 500 {
			flush()
		}
	}
	flush()
	return perTenant
}

// A log of 100,000 entries is opened, read and listed in few storage operations.
func TestLargeLog(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	synctest.Test(t, testLargeLog)
}

func testLargeLog(t *testing.T) {
	disk := storagetest.NewDisk()
	first := start(t, storagetest.Open(disk, 0, storagetest.None), nil)
	count := largeLog
	if enginetest.UnderRace { // it takes ten times as long
		count /= 5
	}
	perTenant := fill(t, first, count)
	size := first.Size()
	require.EqualValues(t, count+1, size)
	synctest.Wait() // the index follows in the background
	require.GreaterOrEqual(t, len(disk.Keys("evidence/log/000001/index/1/")), 16*(count/16384))
	first.end()

	s := storagetest.Open(disk, 0, storagetest.None)
	p := start(t, s, nil)
	_, err := p.Key(t.Context())
	require.NoError(t, err)
	t.Logf("opening a log of %d entries: %d operations", size, s.Ops())
	require.Less(t, s.Ops(), 400)
	synctest.Wait() // what it does in the background is not counted below

	key, err := p.Key(t.Context())
	require.NoError(t, err)
	for _, index := range []int64{0, 1, 255, 256, min(65535, size-3), min(65536, size-2), size - 1} {
		before := s.Ops()
		leaf, err := p.Entry(t.Context(), index)
		require.NoError(t, err)
		proof, err := p.Proof(t.Context(), index, 0)
		require.NoError(t, err)
		require.Less(t, s.Ops()-before, 12, "reading entry %d and its proof", index)
		at, _, err := evidence.OpenProof(proof, leaf, key.VKey)
		require.NoError(t, err)
		require.Equal(t, index, at)
	}
	for _, tenant := range []int{0, 7, 1234, largeTenants - 1} {
		var listed []int64
		before := s.Ops()
		for after := int64(-1); ; {
			page, err := p.Tenant(t.Context(), tenantID(tenant), after, evidencelog.MaxPage)
			require.NoError(t, err)
			if len(page) == 0 {
				break
			}
			listed = append(listed, page...)
			after = page[len(page)-1]
		}
		require.Equal(t, perTenant[tenant], listed, "tenant %d", tenant)
		pages := len(listed)/evidencelog.MaxPage + 2
		require.LessOrEqual(t, (s.Ops()-before)/pages, 60, "listing tenant %d", tenant)
	}
	none, err := p.Tenant(t.Context(), tenantID(largeTenants+1), -1, 10)
	require.NoError(t, err)
	require.Empty(t, none)

	// An event that is appended again is recognized, wherever in the log it lies.
	before := s.Ops()
	again, err := p.Append(t.Context(), pending(event(77, 1), false))
	require.NoError(t, err)
	require.Equal(t, perTenant[77][0], again[0].Index)
	require.Less(t, s.Ops()-before, 60)
	require.Equal(t, size, p.Size())
	next, err := p.Append(t.Context(), pending(event(77, len(perTenant[77])+1), false))
	require.NoError(t, err)
	require.Equal(t, size, next[0].Index)
}

// serve answers the paths of tlog-tiles.
func serve(t *testing.T, p *process) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		path := strings.TrimPrefix(r.URL.Path, "/")
		var data []byte
		var err error
		if path == "checkpoint" {
			data, err = p.Checkpoint(r.Context(), 0)
		} else {
			data, err = p.Tile(r.Context(), path)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

// A client of tlog-tiles that is not ours reads and verifies the whole log.
func TestForeignClientReadsTheTiles(t *testing.T) {
	for _, entries := range []int{1, 255, 256, 300, 1100} {
		p := start(t, storagetest.Open(storagetest.NewDisk(), 0, storagetest.None), nil)
		fill(t, p, entries-1)
		require.Eventually(t, func() bool { return p.Size() > 0 }, time.Minute, time.Millisecond) // leaf 0
		url, _ := serve(t, p)
		fetcher, err := torchwood.NewTileFetcher(url)
		require.NoError(t, err)
		client, err := torchwood.NewClient(fetcher, torchwood.WithCutEntry(
			func(tile []byte) (entry []byte, rh tlog.Hash, rest []byte, err error) {
				entry, rest, err = torchwood.ReadTileEntry(tile)
				return entry, tlog.RecordHash(entry), rest, err
			}))
		require.NoError(t, err)
		text, err := fetcher.ReadEndpoint(t.Context(), "checkpoint")
		require.NoError(t, err)
		c, err := evidence.ParseCheckpoint(text)
		require.NoError(t, err)
		require.EqualValues(t, max(entries, 1), c.N)
		var read int64
		for read < c.N { // a run of the client ends with a complete tile
			before := read
			for index, entry := range client.Entries(t.Context(), c.Tree, read) {
				leaf, err := p.Entry(t.Context(), index)
				require.NoError(t, err)
				require.Equal(t, leaf, entry)
				read++
			}
			require.NoError(t, client.Err())
			require.Greater(t, read, before)
		}
		require.Equal(t, c.N, read)
		p.end()
	}
}

func TestTilesBeyondTheLogAreNotFound(t *testing.T) {
	p := start(t, storagetest.Open(storagetest.NewDisk(), 0, storagetest.None), nil)
	fill(t, p, 300)
	for _, path := range []string{
		"tile/0/001.p/46", "tile/0/002.p/1", "tile/1/000.p/2", "tile/1/000", "tile/2/000.p/1", "tile/entries/001.p/46",
		"tile/entries/002.p/1", "tile/0/001", "tile/63/000.p/1", "tile/0/x999/x999/x999/x999/x999/999", "tile", "",
		"tile/0/000.p/256", "tile/0/000.p/0", "../checkpoint", "tile/entries/-01",
	} {
		_, err := p.Tile(t.Context(), path)
		require.ErrorIs(t, err, evidencelog.ErrNotFound, path)
	}
	for _, path := range []string{"tile/0/000", "tile/0/000.p/17", "tile/0/001.p/45", "tile/1/000.p/1", "tile/entries/000"} {
		_, err := p.Tile(t.Context(), path)
		require.NoError(t, err, path)
	}
}

// The index says the same, whatever failed while it was built.
func TestIndexOutlastsFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		s := storagetest.Open(disk, 0, storagetest.None)
		ops := 0
		s.Fail(func(op, key string) storagetest.Fault {
			if op != "put" || !strings.Contains(key, "/index/") {
				return storagetest.None
			}
			ops++
			return []storagetest.Fault{
				storagetest.Before, storagetest.None, storagetest.AfterStale, storagetest.After, storagetest.None,
			}[ops%5]
		})
		p := start(t, s, nil)
		perTenant := fill(t, p, 17_500)
		synctest.Wait()
		list := func(p *process) {
			for _, tenant := range []int{0, 1, 77, 3999} {
				page, err := p.Tenant(t.Context(), tenantID(tenant), -1, evidencelog.MaxPage)
				require.NoError(t, err)
				want := perTenant[tenant]
				require.Equal(t, want[:min(len(want), evidencelog.MaxPage)], page, "tenant %d", tenant)
			}
		}
		list(p)
		p.end()
		list(start(t, storagetest.Open(disk, 0, storagetest.None), nil))
		disk.RestartVault()
		list(start(t, storagetest.Open(disk, 0, storagetest.None), nil))
	})
}
