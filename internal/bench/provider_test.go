// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Each tenant gets its share of reads and of writes.
func TestReadsAndWritesMeet(t *testing.T) {
	var reads, writes [besideTenants]int
	for n := range besideTenants * writeEvery {
		at, write := mixed(n, besideTenants)
		if write {
			writes[at]++
		} else {
			reads[at]++
		}
	}
	for at := range besideTenants {
		require.Equal(t, []int{writeEvery - 1, 1}, []int{reads[at], writes[at]}, "tenant %d", at)
	}
}
