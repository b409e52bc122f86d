// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Each tenant gets its share of reads and of writes.
func TestReadsAndWritesMeet(t *testing.T) {
	var reads, writes [otherTenants]int
	for n := range otherTenants * writeEvery {
		at, write := mixed(n, otherTenants)
		if write {
			writes[at]++
		} else {
			reads[at]++
		}
	}
	for at := range otherTenants {
		require.Equal(t, []int{writeEvery - 1, 1}, []int{reads[at], writes[at]}, "tenant %d", at)
	}
}
