// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
)

// mine is a random item of those that writer w changes.
func mine(rng *rand.Rand, w int) string {
	return chaosItem(rng.IntN(hotItems/chaosWriters)*chaosWriters + w)
}

// change makes one random change.
func (c *clients) change(rng *rand.Rand, w int) {
	item := mine(rng, w)
	_, now := c.ledger.look(item)
	switch n := rng.IntN(100); {
	case n == 0 && rng.IntN(2) == 0:
		c.grow(w)
	case n < 8:
		distinct := map[string]bool{}
		for range 12 {
			distinct[mine(rng, w)] = true
		}
		c.bulk(slices.Sorted(maps.Keys(distinct)), rng)
	case n < 14:
		c.writeStale(item, now)
	case n < 34 && now.revision > 0:
		c.remove(item, now, rng.IntN(2) == 0)
	case n < 44 && now.revision > 0:
		c.write(http.MethodPatch, item, nil)
	case n < 70:
		c.write(http.MethodPut, item, &now.revision)
	default:
		c.write(http.MethodPut, item, nil)
	}
}

// grow writes new items, so that pages go on splitting.
func (c *clients) grow(w int) {
	var batch []string
	for range 10 {
		batch = append(batch, fmt.Sprintf("secrets/new-%d/item-%d", w, c.grown.Add(1)))
	}
	c.bulk(batch, nil)
}

// write makes a change by a request of its own, with or without cas.
func (c *clients) write(method, item string, cas *int) {
	next := c.ledger.begin(item, false)
	body := value(item, next.change)
	if cas != nil {
		body["cas"] = *cas
	}
	begun := c.a.quiesced.Load()
	r := c.a.ask(method, c.path(item), body)
	if !r.ok() {
		c.excused(method, item, begun, r)
		c.find(item)
		return
	}
	c.acknowledge(method, item, number(r.body.Data["revision"]))
}

func (c *clients) acknowledge(what, item string, revision int) {
	c.acknowledged.Add(1)
	if w := c.ledger.acknowledge(item, revision); w != fine {
		c.report(w, "%s of %s was answered revision %d: %s", what, item, revision, c.ledger.history(item))
	}
}

// writeStale sends a write that must be refused, for a revision that the item
// does not have.
func (c *clients) writeStale(item string, now state) {
	next := c.ledger.begin(item, false)
	body := value(item, next.change)
	body["cas"] = now.revision + 3
	begun := c.a.quiesced.Load()
	r := c.a.ask(http.MethodPut, c.path(item), body)
	switch {
	case r.ok():
		c.report(altered, "a write of %s with a stale cas was accepted: %s", item, c.ledger.history(item))
		c.find(item)
	case r.status == http.StatusConflict:
		c.refuse(item)
	default:
		c.excused("a stale write", item, begun, r)
		c.refuse(item) // whatever happened, it must not have been done
	}
}

func (c *clients) refuse(item string) {
	if w := c.ledger.refuse(item); w != fine {
		c.report(w, "%s shows a write that was refused: %s", item, c.ledger.history(item))
	}
}

func (c *clients) remove(item string, now state, cas bool) {
	c.ledger.begin(item, true)
	path := c.path(item)
	if cas {
		path += fmt.Sprintf("?cas=%d", now.revision)
	}
	begun := c.a.quiesced.Load()
	r := c.a.ask(http.MethodDelete, path, nil)
	switch {
	case r.ok():
		c.acknowledge("DELETE", item, 0)
	case r.absent() || cas && r.status == http.StatusConflict:
		// Vault sends a request again after a crash of the plugin. The first
		// may have deleted the item, and then the second finds none.
		if begun%2 == 0 && c.a.quiesced.Load() == begun {
			c.report(lost, "%s was to be deleted, and not there (%s): %s", item, r, c.ledger.history(item))
		}
		c.find(item)
	default:
		c.excused("DELETE", item, begun, r)
		c.find(item)
	}
}

// bulk writes items together, half of them with cas if rng is given. False if
// any was not written.
func (c *clients) bulk(batch []string, rng *rand.Rand) bool {
	var list []map[string]any
	for _, item := range batch {
		_, now := c.ledger.look(item)
		next := c.ledger.begin(item, false)
		entry := value(item, next.change)
		entry["kind"], entry["name"] = splitItem(item)
		if rng != nil && rng.IntN(2) == 0 {
			entry["cas"] = now.revision
		}
		list = append(list, entry)
	}
	begun := c.a.quiesced.Load()
	r := c.a.ask(http.MethodPut, c.path("items"), map[string]any{"items": list})
	results, _ := r.body.Data["results"].([]any)
	if !r.ok() || len(results) != len(batch) {
		c.excused("a bulk write", batch[0], begun, r)
		results = make([]any, len(batch))
	}
	all := true
	for i, item := range batch {
		result, _ := results[i].(map[string]any)
		if revision := number(result["revision"]); revision > 0 {
			c.acknowledge("a bulk write", item, revision)
			continue
		}
		all = false
		if result != nil && begun%2 == 0 && c.a.quiesced.Load() == begun {
			c.report(altered, "an entry of a bulk write of %s was answered %q", item, result["error"])
		}
		c.find(item)
	}
	return all
}
