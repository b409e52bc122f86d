// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package pagedir

import "github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"

// Usage says what each key version of a tenant holds.
type Usage map[int]tally

// Items is the number of items on all versions.
func (u Usage) Items() (c item.Counts) {
	for _, t := range u {
		c = c.Plus(t.items)
	}
	return c
}

// Beside returns the number of items on all versions but the given one.
func (u Usage) Beside(version int) (c item.Counts) {
	for v, t := range u {
		if v != version {
			c = c.Plus(t.items)
		}
	}
	return c
}

// On is the number of items on a version.
func (u Usage) On(version int) item.Counts { return u[version].items }

// Pages is the number of pages on a version.
func (u Usage) Pages(version int) int { return u[version].pages }

// AllPages is the number of pages on all versions.
func (u Usage) AllPages() (n int) {
	for _, t := range u {
		n += t.pages
	}
	return n
}

// tally sums up the pages of one key version.
type tally struct {
	pages int
	items item.Counts
}

// Usage returns the sums by version, once every header is known.
func (d *Directory) Usage() (sums Usage, complete bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages == nil || d.unknown > 0 {
		return nil, false
	}
	sums = make(Usage, len(d.sums))
	for v, t := range d.sums {
		if t.pages > 0 {
			sums[v] = t
		}
	}
	return sums, true
}
