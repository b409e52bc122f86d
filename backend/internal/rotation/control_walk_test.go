// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// moments are those at which a rotation is held while things are done to it. Each
// leaves a walk with a rotation that stands where the model says.
var moments = []struct {
	name  string
	stand stand
	hold  func(*walk)
}{
	{"before the first page", stand{phase: "sweeping"}, func(w *walk) { w.letGo = w.holdStart() }},
	{"in the middle", stand{phase: "sweeping"}, func(w *walk) { w.letGo = w.holdMiddle() }},
	{"when every page has been moved", stand{phase: "sweeping"}, func(w *walk) { w.letGo = w.holdEnd() }},
	{"while the old key goes", stand{phase: "retiring"}, func(w *walk) { w.letGo = w.holdRetiring() }},
	{"when it has completed", stand{phase: "completed"}, func(w *walk) {
		w.request()
		enginetest.Advance(time.Second)
		w.letGo = w.takePlace()
	}},
	{"when it has failed", stand{phase: "failed"}, func(w *walk) {
		w.harm()
		w.request()
		enginetest.Advance(time.Second)
		w.letGo = w.takePlace()
	}},
}

// TestEveryPairOfActions does each action after each other, twice each, at every
// moment, and compares with what the contract says; then lets the rotation go, and
// checks that it ends as it should and that nothing is lost.
func TestEveryPairOfActions(t *testing.T) {
	total := 0
	for _, at := range moments {
		t.Run(at.name, func(t *testing.T) {
			for i, first := range actions {
				for j, second := range actions {
					if enginetest.UnderRace && (i+j)%5 > 0 {
						continue
					}
					total++
					ok := t.Run(first+", "+second, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							w := newWalk(t, at.stand, at.hold)
							for _, action := range []string{first, second} {
								w.step(action)
								w.step(action)
							}
							w.end()
							w.Close()
						})
					})
					if !ok {
						t.FailNow()
					}
				}
			}
		})
	}
	t.Logf("%d pairs", total)
}

// TestRandomActions takes longer walks, all from CRASH_SEED.
func TestRandomActions(t *testing.T) {
	seed := enginetest.SeedOf(t)
	walks := 150
	if enginetest.UnderRace {
		walks /= 10
	}
	for n := range walks {
		ok := t.Run(fmt.Sprint(n), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed+uint64(n))
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			at := moments[random.IntN(len(moments))]
			synctest.Test(t, func(t *testing.T) {
				w := newWalk(t, at.stand, at.hold)
				var taken []string
				defer func() {
					if t.Failed() {
						t.Logf("%s: %s", at.name, strings.Join(taken, ", "))
					}
				}()
				for range 8 {
					action := actions[random.IntN(len(actions))]
					taken = append(taken, action)
					w.step(action)
				}
				w.end()
				w.Works()
				w.Close()
			})
		})
		if !ok {
			t.FailNow()
		}
	}
}
