// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package pagedir

import (
	"maps"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
)

// Loaded reports whether the directory knows the pages.
func (d *Directory) Loaded() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pages != nil
}

// HasOnlyRoot reports whether the tenant has a single page, which covers all hashes.
func (d *Directory) HasOnlyRoot() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, found := d.pages[""]
	return found && len(d.pages) == 1
}

// Pages returns the pages, nil while they are not loaded.
func (d *Directory) Pages() []page.Prefix {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages == nil {
		return nil
	}
	return slices.AppendSeq(make([]page.Prefix, 0, len(d.pages)), maps.Keys(d.pages))
}

// Entries returns the current pages with what is known of them.
func (d *Directory) Entries() (pages map[page.Prefix]Entry, loaded bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages == nil {
		return nil, false
	}
	pages = make(map[page.Prefix]Entry, len(d.pages))
	for p, e := range d.pages {
		pages[p] = e
	}
	return pages, true
}
