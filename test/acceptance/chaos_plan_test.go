// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// control is what else is done to a rotation that a fault strikes.
type control string

const (
	leaveAlone  control = "leave alone"
	cancelFirst control = "cancel, then the fault"
	cancelLast  control = "the fault, then cancel"
	pauseFirst  control = "pause, then the fault, then resume"
	pauseAgain  control = "pause and resume, then the fault"
	pauseCancel control = "pause, then the fault, then cancel"
)

// plan is the schedule of a round, all from its seed.
type plan struct {
	seed uint64
	// together deals the blow while the request that starts the rotation is on
	// its way; else it falls when percent of the items are rotated.
	together  bool
	percent   float64
	delay     time.Duration // after that
	control   control
	encrypts  bool
	outage    time.Duration // before what is down is brought back
	away      time.Duration // before a killed node of a cluster comes back
	traffic   uint64        // seeds the choices of writers and readers
	providers providerPlan  // of a kind with key providers
}

// newPlan draws a plan. The blow falls when less than latest percent are rotated,
// unless it is to meet the start or the end.
func newPlan(kind string, seed uint64, latest float64) plan {
	h := fnv.New64a()
	_, _ = h.Write([]byte(kind))
	rng := rand.New(rand.NewPCG(seed, h.Sum64()))
	p := plan{
		seed:     seed,
		delay:    millis(rng, 20),
		encrypts: rng.IntN(2) == 0,
		outage:   millis(rng, 300),
		away:     millis(rng, 1500),
		traffic:  rng.Uint64(),
	}
	// A tenth of the blows falls on the start, a tenth on the end (the verifying
	// pass, the retiring of the key), the rest anywhere between.
	switch rng.IntN(10) {
	case 0:
		p.together = true
	case 1:
		p.percent = 95 + 5*rng.Float64()
	default:
		p.percent = latest * rng.Float64()
	}
	controls := []control{cancelFirst, cancelLast, pauseFirst, pauseAgain, pauseCancel}
	p.control = leaveAlone
	if !p.together && rng.IntN(5) < 2 {
		p.control = controls[rng.IntN(len(controls))]
	}
	p.providers = newProviderPlan(rand.New(rand.NewPCG(seed, h.Sum64()+1)))
	return p
}

func millis(rng *rand.Rand, n int) time.Duration {
	return time.Duration(rng.IntN(n)) * time.Millisecond
}

func (p plan) String() string {
	moment := fmt.Sprintf("at %.1f %%", p.percent)
	if p.together {
		moment = "with the start"
	}
	return fmt.Sprintf("seed %d: %s and %s, %s", p.seed, moment, p.delay, p.control)
}
