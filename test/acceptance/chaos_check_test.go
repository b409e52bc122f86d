// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// restLimit is how long an ended rotation may take to leave the list of
// unfinished ones.
const restLimit = 90 * time.Second

// check looks at everything after a round, when there is no traffic any more.
func (c *clients) check(r *round) (items int) {
	c.checkRest()
	items = c.checkItems()
	c.checkSealed()
	active, keyIDs := c.checkVersions(r)
	c.checkStorage(active, keyIDs)
	c.checkProviders(r.fault.providers)
	return items
}

// get reads a path that must be there.
func (c *clients) get(method, path string) map[string]any {
	r := c.a.ask(method, path, nil)
	if !r.ok() {
		c.report(altered, "%s %s was answered %s", method, path, r)
	}
	return r.body.Data
}

func (c *clients) list(path string) []string {
	r := c.a.ask("LIST", path, nil)
	if r.absent() {
		return nil
	}
	if !r.ok() {
		c.report(altered, "LIST %s was answered %s", path, r)
	}
	var names []string
	raw, _ := r.body.Data["keys"].([]any)
	for _, name := range raw {
		names = append(names, name.(string))
	}
	return names
}

// checkRest waits until the mount has no unfinished rotation.
func (c *clients) checkRest() {
	var left []string
	err := until(restLimit, func() bool {
		left = c.list("dek/rotations")
		return len(left) == 0
	})
	if err != nil {
		c.report(altered, "%v are listed as unfinished: %v", left, err)
	}
}

// checkItems reads every item there ever was, and compares lists and counts.
func (c *clients) checkItems() int {
	items, present := c.ledger.items()
	var readers errgroup.Group
	readers.SetLimit(8)
	for _, item := range items {
		readers.Go(func() error {
			c.read(item, true)
			return nil
		})
	}
	_ = readers.Wait()
	listed := map[string]bool{}
	for _, kind := range []string{"credentials", "apiKeys", "secrets"} {
		for _, name := range c.list(c.path(kind)) {
			listed[kind+"/"+name] = true
		}
	}
	for _, item := range items {
		_, now := c.ledger.look(item)
		if listed[item] != (now.revision > 0) {
			c.report(lost, "%s is listed: %v; revision %d", item, listed[item], now.revision)
		}
		delete(listed, item)
	}
	if len(listed) > 0 {
		c.report(resurrected, "listed, but never written: %v", slices.Collect(maps.Keys(listed)))
	}
	counts, _ := c.get(http.MethodGet, c.path())["item_counts"].(map[string]any)
	for kind, name := range map[string]string{"credentials": "credentials", "apiKeys": "api_keys", "secrets": "secrets"} {
		if number(counts[name]) != present[kind] {
			c.report(altered, "the tenant counts %v %s, there are %d", counts[name], kind, present[kind])
		}
	}
	return len(items)
}

// checkSealed opens every ciphertext that was kept.
func (c *clients) checkSealed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sealed) == 0 {
		return
	}
	ciphertexts := slices.Sorted(maps.Keys(c.sealed))
	var batch []map[string]any
	for _, ciphertext := range ciphertexts {
		batch = append(batch, map[string]any{"ciphertext": ciphertext})
	}
	r := c.a.ask(http.MethodPut, c.path("decrypt"), map[string]any{"batch_input": batch})
	results, _ := r.body.Data["batch_results"].([]any)
	if len(results) != len(batch) {
		c.report(lost, "decrypting %d ciphertexts was answered %s", len(batch), r)
		return
	}
	for i, ciphertext := range ciphertexts {
		result, _ := results[i].(map[string]any)
		if result["plaintext"] != c.sealed[ciphertext] {
			version, _, _ := strings.Cut(strings.TrimPrefix(ciphertext, "dek:"), ":")
			c.report(lost, "a ciphertext of %s does not open to its plaintext: %v", version, result["error"])
		}
	}
}

// checkVersions looks at the tenant's versions and returns the active one, and
// the IDs of the key entries that there must be.
func (c *clients) checkVersions(r *round) (active int, keyIDs []string) {
	dek := c.get(http.MethodGet, c.path("dek"))
	want := number(r.ended["new_version"])
	if r.ended["status"] == "rolled_back" {
		want = number(r.ended["previous_version"])
	}
	seen := map[int]bool{}
	list, _ := dek["versions"].([]any)
	for _, raw := range list {
		v, _ := raw.(map[string]any)
		n, id, external := number(v["version"]), fmt.Sprint(v["key_id"]), v["external_use"] == true
		if seen[n] {
			c.report(altered, "version %d is there twice", n)
		}
		seen[n] = true
		if external {
			keyIDs = append(keyIDs, id+".ext")
		}
		state := "destroyed"
		switch {
		case n == want:
			state = "active"
			keyIDs = append(keyIDs, id)
		case external:
			state = "deactivated"
		}
		if v["state"] != state || n != want && number(v["pages"]) != 0 {
			c.report(altered, "version %d is %v with %v pages, want %s", n, v["state"], v["pages"], state)
		}
	}
	if number(dek["current_version"]) != want {
		c.report(altered, "the current version is %v, want %d", dek["current_version"], want)
	}
	return want, keyIDs
}

// checkStorage looks at the storage entries themselves: every page, of an
// unfinished split too, is sealed by the active version, and there is no key
// but those that are needed.
func (c *clients) checkStorage(active int, keyIDs []string) {
	mount := c.get(http.MethodGet, "sys/mounts/dek")
	base := fmt.Sprintf("sys/raw/logical/%v/", mount["uuid"])
	var keys []string
	for _, id := range c.list(base + "keys/" + c.incarnation) {
		if !strings.HasPrefix(id, "plc-") { // the placement key stays
			keys = append(keys, id)
		}
	}
	sort.Strings(keys)
	sort.Strings(keyIDs)
	if !slices.Equal(keys, keyIDs) {
		c.report(altered, "the tenant's keys are %v, want %v", keys, keyIDs)
	}
	pages := base + "pages/" + c.incarnation
	for _, page := range c.list(pages) {
		value, _ := c.get(http.MethodGet, pages+"/"+page+"?encoding=base64")["value"].(string)
		sealed, err := base64.StdEncoding.DecodeString(value)
		// docs/formats.md: a byte of format, four of key version.
		if err != nil || len(sealed) < 5 || int(binary.BigEndian.Uint32(sealed[1:5])) != active {
			c.report(altered, "page %s is not on version %d", page, active)
		}
	}
}
