// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package jobs

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// A plugin's log goes to Vault as JSON, in which a time.Duration is a number of
// nanoseconds: pause=5e+08.
func TestPauseIsLoggedAsADuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		r := NewRunner(hclog.New(&hclog.LoggerOptions{Output: &out, JSONFormat: true}))
		tries := 0
		r.Run(Job{ID: "x", FailureMessage: "trouble", Step: func(context.Context) (bool, bool, error) {
			tries++
			return tries > 2, false, errors.New("no luck")
		}})
		for !r.Idle() {
			synctest.Wait()
			r.wait(MaxPause)
		}
		r.Stop()
		require.Contains(t, out.String(), `"pause":"250ms"`)
		require.Contains(t, out.String(), `"pause":"500ms"`)
	})
}
