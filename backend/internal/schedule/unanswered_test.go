// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
)

// A request that was given up before its answer is gone on with by the next that asks
// for the same, for a while. One that was answered is not.
func TestRequestGoesOnWithOneThatWasGivenUp(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	first := Demand{Request: "first", Reason: "leak", By: actor.Actor{ID: "alice"}}
	of := func(change func(*Demand)) Demand {
		d := first
		d.Request = "second"
		change(&d)
		return d
	}
	same := func(*Demand) {}
	for name, c := range map[string]struct {
		givenUp bool
		after   time.Duration
		second  Demand
		tenants []string
		goesOn  bool
	}{
		"the same":            {true, time.Minute, of(same), []string{"b", "a"}, true},
		"answered":            {false, time.Minute, of(same), []string{"a", "b"}, false},
		"too late":            {true, resumeWithin, of(same), []string{"a", "b"}, false},
		"the clock went back": {true, -time.Hour, of(same), []string{"a", "b"}, false},
		"other tenants":       {true, time.Minute, of(same), []string{"a", "c"}, false},
		"all":                 {true, time.Minute, of(same), nil, false},
		"another caller":      {true, time.Minute, of(func(d *Demand) { d.By.ID = "bob" }), []string{"a", "b"}, false},
		"another reason":      {true, time.Minute, of(func(d *Demand) { d.Reason = "" }), []string{"a", "b"}, false},
		"paused ones, too":    {true, time.Minute, of(func(d *Demand) { d.IncludePaused = true }), []string{"a", "b"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var u unanswered
			request, over := u.begin(first, []string{"a", "b"}, now)
			require.Equal(t, actor.RequestDigest("first"), request)
			over(c.givenUp, now)
			got, over := u.begin(c.second, c.tenants, now.Add(c.after))
			require.Equal(t, c.goesOn, got == request)
			over(false, now)
			if c.goesOn {
				again, _ := u.begin(of(func(d *Demand) { d.Request = "third" }), c.tenants, now)
				require.NotEqual(t, request, again, "it was answered")
			}
		})
	}
}

func TestUnansweredRequestsAreBounded(t *testing.T) {
	var u unanswered
	for n := range 10 * maxUnanswered {
		_, over := u.begin(Demand{Reason: fmt.Sprint(n)}, nil, time.Unix(0, 0))
		over(true, time.Unix(0, 0))
	}
	require.Len(t, u.latest, maxUnanswered)
}
