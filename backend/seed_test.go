// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"slices"
	"testing"
	"testing/cryptotest"

	"github.com/stretchr/testify/require"
)

// One seed gives one run: the same operations on the same entries, in the same
// order. So a crash point that CRASH_SEED and its number name can be tried again.
func TestSeedReproducesARun(t *testing.T) {
	inOrder(t)
	run := func(t *testing.T, sc scenario) []string {
		cryptotest.SetGlobalRandom(t, seedOf(t))
		_, ops := rehearse(t, sc.before, sc.act)
		return ops
	}
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			var first, second []string
			t.Run("once", func(t *testing.T) { first = run(t, sc) })
			// A busy machine may take the processor from a goroutine at any time.
			for n := 0; n < 10 && !slices.Equal(first, second); n++ {
				t.Run("again", func(t *testing.T) { second = run(t, sc) })
			}
			require.Equal(t, first, second)
		})
	}
}
