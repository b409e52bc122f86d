// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package pagedir

import (
	"maps"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
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

// Span is a part of a tenant's items, in the order of storage, that a list wants: those of a
// kind whose hashes lie from one to another, both included, or the first of them.
type Span struct {
	From, To page.Hash
	Kind     item.Kind
	Limit    int // how many items are wanted; 0: all
	Usual    int // how many a page is taken to have whose header is not known
}

// Ahead returns where to look for the pages that a list reads next: the hash at which the
// span begins, and the first hash of each page after that one. It ends once those pages
// have what is wanted, as far as is known, and after most of them.
func (d *Directory) Ahead(s Span, most int) []page.Hash {
	d.mu.Lock()
	defer d.mu.Unlock()
	hashes := []page.Hash{s.From}
	for items := 0; len(hashes) < most; {
		p, found := d.covering(hashes[len(hashes)-1])
		if !found || p.Last() >= s.To {
			break
		}
		if e := d.pages[p]; e.Known {
			items += int(e.Counts[s.Kind])
		} else {
			items += s.Usual
		}
		if s.Limit > 0 && items >= s.Limit {
			break
		}
		hashes = append(hashes, p.Last()+1)
	}
	return hashes
}
