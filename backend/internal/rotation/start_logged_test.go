// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// The pages of a large tenant do not hold up the log of the start, for which the caller of
// dek/rotate waits. And a log that cannot be written does not hold up the pages.
func TestStartIsLoggedBeforeManyPagesMove(t *testing.T) {
	for name, tt := range map[string]struct {
		start       func(*enginetest.Oracle)
		broken      bool
		from, until time.Duration // when the first page moves
	}{
		"the log is written":        {(*enginetest.Oracle).Rotate, false, 0, 100 * time.Millisecond},
		"the log cannot be written": {(*enginetest.Oracle).Rotate, true, time.Second, 2 * time.Second},
		"nobody waits": {func(w *enginetest.Oracle) {
			w.Must(enginetest.Update, "rotations", map[string]any{"all": true})
			w.Tick()
		}, true, 0, 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := enginetest.Filled(t, 800)
				defer w.Close()
				require.Greater(t, len(w.PageKeys()), 64)
				if tt.broken {
					w.Storage.Fail(enginetest.FailOn("put", "evidence/log/", storagetest.Before))
				}
				began := time.Now()
				var mu sync.Mutex
				var logged, loggedFirst bool
				var moved time.Duration
				w.Storage.Done(func(op, key string) {
					mu.Lock()
					defer mu.Unlock()
					switch {
					case op == "put" && strings.HasPrefix(key, "evidence/log/"):
						logged = !tt.broken
					case op == "put" && strings.HasPrefix(key, "pages/") && moved == 0:
						moved, loggedFirst = time.Since(began)+1, logged
					}
				})
				tt.start(w)
				enginetest.Advance(3 * time.Second)
				w.Storage.Done(nil)
				w.Storage.Fail(nil)
				require.NotEqual(t, tt.broken, loggedFirst)
				require.Greater(t, moved, tt.from)
				require.Less(t, moved, tt.until)
				enginetest.Advance(time.Minute)
				w.ReadsBack()
				w.AtRest()
			})
		})
	}
}
