// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// sharedScenarios are of rotations and creations that start at the same time, so that their
// intents share an entry of the write-ahead log.
var sharedScenarios = []scenario{
	{
		name:   "rotations and creations that share an intent's entry",
		before: threeTenants,
		act:    startTogether,
		twice:  true,
	},
}

func threeTenants(w *enginetest.Oracle) {
	w.Create()
	w.Put("a", "1")
	for n := range 2 {
		path := "tenants/" + enginetest.TenantN(n)
		w.Must(enginetest.Update, path, nil)
		w.Must(enginetest.Update, path+"/secrets/a", enginetest.Secret("other"))
	}
}

// startTogether rotates three tenants and creates two. The first intent that is put keeps
// the others waiting, who then share an entry.
func startTogether(w *enginetest.Oracle) {
	w.Storage.Hook(func(op, key string) {
		if op == "put" && strings.HasPrefix(key, framework.WALPrefix) {
			<-time.After(time.Millisecond)
		}
	})
	var answers []chan enginetest.Answered
	for _, path := range []string{
		"tenants/" + enginetest.TenantN(0) + "/dek/rotate",
		"tenants/" + enginetest.TenantN(1) + "/dek/rotate",
		"tenants/" + enginetest.TenantN(2),
		"tenants/" + enginetest.TenantN(3),
	} {
		answers = append(answers, w.Concurrently(enginetest.Update, path, nil))
		synctest.Wait()
	}
	w.Rotate()
	for _, a := range answers {
		<-a // whether it was acknowledged: what is left is whole in either case
	}
	w.Storage.Hook(nil)
	w.Put("b", "1")
}

// What startTogether is for: most of its intents do share an entry, of both kinds.
func TestIntentsShareAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		w := enginetest.NewOracle(m)
		defer w.Close()
		threeTenants(w)
		enginetest.Advance(time.Minute)
		var shared []string
		var mu sync.Mutex // several intents may be put at once
		m.Storage.Done(func(op, key string) {
			mu.Lock()
			defer mu.Unlock()
			if op != "put" || !strings.HasPrefix(key, framework.WALPrefix) {
				return
			}
			var entry struct {
				Kind string `json:"type"`
				Data struct {
					Intents []struct {
						RotationID string `json:"rotation_id"`
					} `json:"intents"`
				} `json:"data"`
			}
			require.NoError(t, json.Unmarshal(m.Disk.Value(key), &entry))
			if entry.Kind != "shared" {
				return
			}
			for _, i := range entry.Data.Intents {
				kind := "creation"
				if i.RotationID != "" {
					kind = "rotation"
				}
				shared = append(shared, kind)
			}
		})
		startTogether(w)
		enginetest.Advance(time.Minute)
		m.Storage.Done(nil)
		require.ElementsMatch(t, []string{"rotation", "creation", "creation", "rotation"}, shared)
		w.ReadsBack()
		w.AtRest()
	})
}
