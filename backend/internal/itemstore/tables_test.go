// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/pagedir"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Directories in memory keep within their limit, and one in use is never dropped.
func TestTablesKeepWithinTheirLimit(t *testing.T) {
	s := &Store{tables: newTables()}
	s.tables.limitMemory(100 * (tableBytes + directoryEntryBytes))
	used, release := s.table(&tenant.Record{Incarnation: "used"})
	for i := range 1000 {
		tab, release := s.table(&tenant.Record{Incarnation: fmt.Sprint(i)})
		require.True(t, tab.dir.Install(tab.dir.BeginList(), pagedir.Listed{Pages: map[page.Prefix]bool{"": true}}))
		release()
		require.LessOrEqual(t, s.tables.bytes, s.tables.limit)
	}
	require.Greater(t, len(s.tables.open), 85)
	require.Same(t, used, s.tables.open["used"])
	require.NotNil(t, s.tables.open["999"], "the last one used stays")

	s.tables.limitMemory(0)
	require.Len(t, s.tables.open, 1)
	require.Zero(t, s.tables.bytes)
	release()
	require.Empty(t, s.tables.open)
}

// A placement key may be forgotten by an eviction and by a move of its tenant's keys at the
// same time. The race detector tells where the two are not kept apart.
func TestPlacementKeyIsForgottenByTwoAtOnce(t *testing.T) {
	s := &Store{tables: newTables()}
	var moves sync.WaitGroup
	for i := range 200 {
		incarnation := fmt.Sprint(i)
		tab, release := s.table(&tenant.Record{Incarnation: incarnation})
		tab.placement = []byte{1}
		release()
		moves.Go(func() { s.ReopenKey(incarnation) })
	}
	s.tables.limitMemory(0)
	moves.Wait()
	require.Empty(t, s.tables.open)
}
