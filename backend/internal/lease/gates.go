// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package lease

import (
	"maps"
	"slices"
	"sync"
)

// Gates has one G for each key-encryption key that was asked for: by incarnation, empty for
// the mount's, and storage key. The zero value is empty. It is safe for concurrent use, and
// takes no lock of a G.
type Gates[G any] struct {
	mu sync.Mutex
	of map[string]map[string]*G
}

// Get returns the one at a key, made if there is none.
func (g *Gates[G]) Get(incarnation, key string) *G {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.of == nil {
		g.of = map[string]map[string]*G{}
	}
	if g.of[incarnation] == nil {
		g.of[incarnation] = map[string]*G{}
	}
	if g.of[incarnation][key] == nil {
		g.of[incarnation][key] = new(G)
	}
	return g.of[incarnation][key]
}

// In returns those of incarnations, by storage key.
func (g *Gates[G]) In(incarnations ...string) map[string]*G {
	g.mu.Lock()
	defer g.mu.Unlock()
	found := map[string]*G{}
	for _, i := range incarnations {
		maps.Copy(found, g.of[i])
	}
	return found
}

// All returns all of them, by storage key.
func (g *Gates[G]) All() map[string]*G {
	g.mu.Lock()
	incarnations := slices.Collect(maps.Keys(g.of))
	g.mu.Unlock()
	return g.In(incarnations...)
}

// Drop forgets the one at a key.
func (g *Gates[G]) Drop(incarnation, key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.of[incarnation], key)
	if len(g.of[incarnation]) == 0 {
		delete(g.of, incarnation)
	}
}
