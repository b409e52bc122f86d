// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

const (
	chaosWriters = 3
	chaosReaders = 2
	// hotItems are those that are changed; the rest is only read.
	hotItems = 300
	// firstItems is how many items a tenant has at first.
	firstItems = 2 * hotItems
	// breath is what a client rests between two requests, so that all of them
	// leave the machine room for the rotation.
	breath = 4 * time.Millisecond
	// sealedKept bounds the ciphertexts that are kept to be opened at the end.
	sealedKept = 500
)

// clients write and read a tenant's items and encrypt with its key, whatever
// happens to Vault, and keep account of the answers.
type clients struct {
	a      *arena
	tenant string
	// incarnation is part of the tenant's storage keys.
	incarnation string
	ledger      ledger
	items       int
	report      func(w wrong, format string, args ...any)

	acknowledged atomic.Int64 // writes
	grown        atomic.Int64 // items that came during rounds
	encrypts     atomic.Bool

	mu     sync.Mutex
	sealed map[string]string // ciphertext to plaintext, both in base64
}

// chaosItem is item i. Kinds take turns.
func chaosItem(i int) string {
	kinds := []string{"credentials", "apiKeys", "secrets"}
	return fmt.Sprintf("%s/team-%d/item-%d", kinds[i%3], i%7, i)
}

func splitItem(item string) (kind, name string) {
	kind, name, _ = strings.Cut(item, "/")
	return kind, name
}

// newClients makes a tenant with its items, none of which keeps a retired key.
func newClients(t *testing.T, a *arena, report func(wrong, string, ...any)) *clients {
	t.Helper()
	c := &clients{
		a: a, tenant: uuid.NewString(), report: report,
		ledger: ledger{records: map[string]*record{}}, sealed: map[string]string{},
	}
	// One page at a time, so that a rotation lasts.
	settings := map[string]any{"rotation_parallelism": 1, "retired_key_retention": 0}
	r := a.ask(http.MethodPut, "dek/config", settings)
	require.True(t, r.ok(), r.String())
	body := map[string]any{"display_name": "chaos"}
	if a.keyProvider != "" {
		body["key_provider"] = a.keyProvider
	}
	r = a.ask(http.MethodPut, c.path(), body)
	require.True(t, r.ok(), r.String())
	require.NoError(t, c.add(firstItems))
	mount := c.get(http.MethodGet, "sys/mounts/dek")
	sum := sha256.Sum256([]byte(c.tenant))
	entry := c.get(http.MethodGet, fmt.Sprintf("sys/raw/logical/%v/tenants/%x/%s", mount["uuid"], sum[:1], c.tenant))
	var tenant struct{ Incarnation string }
	text, _ := entry["value"].(string)
	require.NoError(t, json.Unmarshal([]byte(text), &tenant))
	require.NotEmpty(t, tenant.Incarnation)
	c.incarnation = tenant.Incarnation
	return c
}

func (c *clients) path(parts ...string) string { return tenantPath(c.tenant, parts...) }

// add writes so many more items, while nothing else happens.
func (c *clients) add(items int) error {
	const chunk = 500
	for end := c.items + items; c.items < end; {
		var batch []string
		for len(batch) < chunk && c.items < end {
			batch = append(batch, chaosItem(c.items))
			c.items++
		}
		if !c.bulk(batch, nil) {
			return errors.New("the tenant's items were not written")
		}
	}
	return nil
}

// run starts the traffic; the function returned ends it and waits.
func (c *clients) run(seed uint64) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for w := range chaosWriters {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for ; ctx.Err() == nil; pass(breath) {
				c.change(rng, w)
			}
		})
	}
	for n := range chaosReaders {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(100+n)))
			for ; ctx.Err() == nil; pass(breath) {
				c.read(chaosItem(rng.IntN(2*hotItems)), false)
			}
		})
	}
	all.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 200))
		for ; ctx.Err() == nil; pass(breath) {
			if c.encrypts.Load() {
				c.seal(rng)
			}
		}
	})
	return func() { cancel(); all.Wait() }
}

// excused says whether a request that did not get what it asked for may fail:
// only while something is down, and then never as if it were to blame itself.
func (c *clients) excused(what, item string, begun int64, r reply) {
	blamed := r.refusal() && (r.status != http.StatusFailedDependency || !c.a.denied.Load())
	if now := c.a.quiesced.Load(); blamed || begun == now && now%2 == 0 {
		c.report(altered, "%s of %s was answered %s (down: %v)", what, item, r, now%2 == 1 || begun != now)
	}
}

// find reads an item until it is known what became of its last change.
func (c *clients) find(item string) {
	err := until(recoveryLimit, func() bool { return c.read(item, true) })
	if err != nil {
		c.report(lost, "%s could not be read %s", item, err)
	}
}

// read compares an item with the ledger; false if there was no answer.
func (c *clients) read(item string, owner bool) bool {
	known, _ := c.ledger.look(item)
	begun := c.a.quiesced.Load()
	r := c.a.ask(http.MethodGet, c.path(item), nil)
	if !r.ok() && !r.absent() {
		c.excused("GET", item, begun, r)
		return false
	}
	var shown state
	if r.ok() {
		var intact bool
		if shown, intact = shownBy(item, r.body.Data); !intact {
			c.report(altered, "%s is not what was written: change %d, revision %d", item, shown.change, shown.revision)
		}
	}
	if w := c.ledger.settle(item, known, shown, owner); w != fine {
		c.report(w, "%s shows change %d, revision %d: %s", item, shown.change, shown.revision, c.ledger.history(item))
	}
	return true
}

// seal encrypts something and opens something that was encrypted before.
func (c *clients) seal(rng *rand.Rand) {
	plaintext := base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("plaintext %d", rng.Uint64())))
	begun := c.a.quiesced.Load()
	r := c.a.ask(http.MethodPut, c.path("encrypt"), map[string]any{"plaintext": plaintext})
	ciphertext, _ := r.body.Data["ciphertext"].(string)
	if !r.ok() || ciphertext == "" {
		c.excused("encrypt", "a plaintext", begun, r)
		return
	}
	c.keepSealed(ciphertext, plaintext)
	c.open(ciphertext, plaintext)
}

func (c *clients) keepSealed(ciphertext, plaintext string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sealed) >= sealedKept {
		for old := range c.sealed { // any: iteration is random
			delete(c.sealed, old)
			break
		}
	}
	c.sealed[ciphertext] = plaintext
}

func (c *clients) open(ciphertext, plaintext string) {
	begun := c.a.quiesced.Load()
	r := c.a.ask(http.MethodPut, c.path("decrypt"), map[string]any{"ciphertext": ciphertext})
	version, _, _ := strings.Cut(strings.TrimPrefix(ciphertext, "dek:"), ":")
	switch {
	case !r.ok():
		c.excused("decrypt", "a ciphertext of "+version, begun, r)
	case r.body.Data["plaintext"] != plaintext:
		c.report(lost, "a ciphertext of %s opens to something else", version)
	}
}
