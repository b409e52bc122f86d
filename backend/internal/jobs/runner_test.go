// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package jobs

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// A step that fails is tried again after longer and longer pauses. One that has what it
// waited for is tried soon, and does not make others, which fail for another reason, more
// frequent.
func TestPausesBetweenTries(t *testing.T) {
	const hour = 3600
	for name, c := range map[string]struct {
		ready         func(try int) bool
		least, atMost int // tries in an hour
	}{
		"nothing is ready":       {func(int) bool { return false }, hour / 30, hour/30 + 10},
		"ready each time":        {func(int) bool { return true }, hour / 2, hour/2 + 10},
		"ready every other time": {func(try int) bool { return try%2 == 0 }, hour / 32 * 2, hour/32*2 + 20},
		"ready once":             {func(try int) bool { return try == 3 }, hour / 30, hour/30 + 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := NewRunner(hclog.NewNullLogger())
				tries := 0
				r.Await = func(context.Context, error) (known, ready bool) { return true, c.ready(tries) }
				r.Run(Job{ID: "x", FailureMessage: "trouble", Step: func(context.Context) (bool, bool, error) {
					tries++
					return false, false, errors.New("no luck")
				}})
				r.wait(time.Hour)
				r.Stop()
				require.GreaterOrEqual(t, tries, c.least)
				require.LessOrEqual(t, tries, c.atMost)
			})
		})
	}
}
