// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package pagedir_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/pagedir"
)

func names(t *testing.T, names ...string) pagedir.Listed {
	t.Helper()
	l, err := pagedir.ListedFrom(names)
	require.NoError(t, err)
	return l
}

func header(version int, secrets uint32) page.Header {
	h := page.Header{Version: version}
	h.Counts[item.Secrets] = secrets
	return h
}

// A List that began before a change is not installed: it may lack the change.
func TestListBeforeAChangeIsNotInstalled(t *testing.T) {
	root := page.Prefix("")
	for name, change := range map[string]func(*pagedir.Directory){
		"dropped":       (*pagedir.Directory).Drop,
		"split":         func(d *pagedir.Directory) { d.Change(&root, nil) },
		"a first delta": func(d *pagedir.Directory) { d.WroteDelta(root, header(1, 1)) },
	} {
		var d pagedir.Directory
		began := d.BeginList()
		change(&d)
		require.False(t, d.Install(began, names(t, "p")), name)
		require.True(t, d.Install(d.BeginList(), names(t, "p")), name)
	}
}

// What a split has left over counts for nothing while the page above is there.
func TestLeftoversAreNotShown(t *testing.T) {
	var d pagedir.Directory
	require.True(t, d.Install(d.BeginList(), names(t, "p0", "p00", "p01", "p1", "d0")))
	leaves, loaded := d.Entries()
	require.True(t, loaded)
	require.Len(t, leaves, 2)
	require.True(t, d.MayHaveDelta("0"))
	require.False(t, d.MayHaveDelta("1"))
	require.True(t, d.MayHaveDelta("00"), "nothing is known of it")
	p, found, _, _ := d.Route(page.Prefix("01").First())
	require.True(t, found)
	require.Equal(t, page.Prefix("0"), p)
}

// Usage is known once every header is, and follows what is written.
func TestUsageIsOfAllHeaders(t *testing.T) {
	var d pagedir.Directory
	require.True(t, d.Install(d.BeginList(), names(t, "p0", "p1")))
	drops, unknown, _ := d.HeadersToRead()
	require.Equal(t, []page.Prefix{"0", "1"}, unknown)
	d.Learn(drops, "0", header(1, 3))
	_, complete := d.Usage()
	require.False(t, complete)
	d.Wrote("1", header(2, 4))
	d.Learn(drops, "1", header(1, 9)) // read before it was written
	usage, complete := d.Usage()
	require.True(t, complete)
	require.EqualValues(t, 3, usage.On(1)[item.Secrets])
	require.EqualValues(t, 4, usage.Beside(1)[item.Secrets])
	require.EqualValues(t, 2, usage.AllPages())
	gone := page.Prefix("0")
	d.Change(&gone, map[page.Prefix]page.Header{"00": header(2, 1), "01": header(2, 2)})
	usage, _ = d.Usage()
	require.Zero(t, usage.Pages(1))
	require.EqualValues(t, 7, usage.Items()[item.Secrets])

	d.Drop()
	require.True(t, d.Install(d.BeginList(), names(t, "p0")))
	d.Learn(drops, "0", header(2, 7)) // read before the drop, which may have forgotten a write
	_, complete = d.Usage()
	require.False(t, complete)
}

// A gap is the largest place that no page covers.
func TestGap(t *testing.T) {
	var d pagedir.Directory
	require.True(t, d.Install(d.BeginList(), names(t, "p0", "p11")))
	require.Equal(t, page.Prefix("10"), d.Gap(page.Prefix("101").First()))
}

// A list looks ahead for as many pages as it needs, so far as their items are known.
func TestAhead(t *testing.T) {
	first := func(p page.Prefix) page.Hash { return p.First() }
	all := []page.Hash{first("00"), first("01"), first("10"), first("11")}
	const end = ^page.Hash(0)
	for name, tt := range map[string]struct {
		from, to    page.Hash
		limit, most int
		want        []page.Hash
	}{
		"no limit":             {0, end, 0, 9, all},
		"at most two":          {0, end, 0, 2, all[:2]},
		"the first has enough": {0, end, 5, 9, all[:1]},
		"the second, too":      {0, end, 6, 9, all[:2]},
		"one is not known":     {0, end, 70, 9, all[:3]}, // it may have the usual 64
		"within a page":        {first("10") + 7, end, 0, 9, []page.Hash{first("10") + 7, first("11")}},
		"to the end of a page": {0, page.Prefix("01").Last(), 0, 9, all[:2]},
		"to the middle of one": {0, first("10") + 7, 0, 9, all[:3]},
	} {
		t.Run(name, func(t *testing.T) {
			var d pagedir.Directory
			span := pagedir.Span{From: tt.from, To: tt.to, Kind: item.Secrets, Limit: tt.limit, Usual: 64}
			require.Equal(t, []page.Hash{tt.from}, d.Ahead(span, tt.most), "not loaded")
			require.True(t, d.Install(d.BeginList(), names(t, "p00", "p01", "p10", "p11")))
			d.Saw("00", header(1, 5))
			d.Saw("01", header(1, 5))
			require.Equal(t, tt.want, d.Ahead(span, tt.most))
		})
	}
}
