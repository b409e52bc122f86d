// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"iter"
	"net/http"
	"path"
	"slices"
	"strings"
)

// kvPlace is where a secret is, and the name that its item gets.
type kvPlace struct {
	path string // below the mount
	name string
	err  error // why it cannot be read, nil if it can
}

// walk goes through the secrets at the path and below it, in the order of their paths as
// bytes, from behind the path after on. KV lists a folder whole, so the names of one
// folder at each depth are in memory.
func (m *kvMount) walk(ctx context.Context, after string) iter.Seq2[kvPlace, error] {
	return func(yield func(kvPlace, error) bool) {
		if !m.folder && m.path > after {
			if !yield(kvPlace{path: m.path, name: path.Base(m.path)}, nil) {
				return
			}
		}
		base := ""
		if m.path != "" {
			base = m.path + "/"
		}
		m.below(ctx, base, base, after, yield)
	}
}

// below goes through one folder, and reports whether to go on.
func (m *kvMount) below(ctx context.Context, base, folder, after string, yield func(kvPlace, error) bool) bool {
	keys, err := m.list(ctx, folder)
	if folder != base && hasStatus(err, http.StatusForbidden) && m.tokenIsGood(ctx) {
		// One folder that a policy keeps shut is no reason to stop.
		return yield(kvPlace{path: folder, err: err}, nil)
	}
	if err != nil {
		yield(kvPlace{}, err)
		return false
	}
	slices.Sort(keys) // "a/" comes where what is below it comes
	for _, key := range keys {
		at := folder + key
		name, isFolder := strings.CutSuffix(key, "/")
		switch {
		case at == after, at < after && (!isFolder || !strings.HasPrefix(after, at)):
			// It was done before.
		case isNoPart(name):
			if !yield(kvPlace{path: at, err: errUnreadable}, nil) {
				return false
			}
		case isFolder:
			if !m.below(ctx, base, at, after, yield) {
				return false
			}
		default:
			if !yield(kvPlace{path: at, name: strings.TrimPrefix(at, base)}, nil) {
				return false
			}
		}
	}
	return true
}

// tokenIsGood reports whether the source knows the token: then a 403 was a policy's.
func (m *kvMount) tokenIsGood(ctx context.Context) bool {
	return m.lasting(ctx, func() error {
		_, err := m.vault.Auth().Token().LookupSelfWithContext(ctx)
		return err
	}) == nil
}
