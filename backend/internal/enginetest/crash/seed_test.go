// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"slices"
	"testing"
	"testing/cryptotest"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// One seed gives one run: the same operations on the same entries, in the same
// order. So a crash point that CRASH_SEED and its number name can be tried again.
func TestSeedReproducesARun(t *testing.T) {
	if enginetest.UnderRace {
		t.Skip("the race detector lets goroutines run in another order each time; make test runs this without it")
	}
	enginetest.InOrder(t)
	run := func(t *testing.T, sc scenario) []string {
		cryptotest.SetGlobalRandom(t, enginetest.SeedOf(t))
		_, ops := rehearse(t, sc.before, sc.act)
		return ops
	}
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			// A busy machine may take the processor from a goroutine in between: then a
			// run is another one. Those that are left in peace are the same.
			var runs [][]string
			for range 20 {
				var ops []string
				t.Run("run", func(t *testing.T) { ops = run(t, sc) })
				if slices.ContainsFunc(runs, func(r []string) bool { return slices.Equal(r, ops) }) {
					return
				}
				runs = append(runs, ops)
			}
			require.Equal(t, runs[0], runs[1])
		})
	}
}
