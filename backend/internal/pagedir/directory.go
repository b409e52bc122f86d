// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"slices"
	"sync"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
)

// directory caches which pages a tenant has, and their headers. It holds the current
// pages; those left over from an unfinished split appear only in a fresh List.
//
// Such a cache is easily wrong, so its rules are strict. It is dropped on any error of
// a write. A List that began before a drop, or before a split that the directory was
// notified of, is never installed: a drop and a split each start a new generation. A
// caller that finds a page by it looks again under the page's lock.
type directory struct {
	mu          sync.Mutex
	generation  uint64
	drops       uint64                // how often what was known of pages was forgotten
	firstDeltas uint64                // how often a page got a delta that had none
	pages       map[page.Prefix]entry // nil while not loaded
	sums        map[int]tally         // of the pages whose header is known, by version
	unknown     int                   // how many headers are not known
}

type entry struct {
	page.Header
	known       bool
	delta       bool // a List has shown a delta, or one was put since
	writtenHere bool // this process has put the page, and since then no Put failed
}

// tally sums up the pages of one key version.
type tally struct {
	pages int
	items item.Counts
}

// size returns how many pages it holds.
func (d *directory) size() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pages)
}

// started returns what to install a List under that begins now.
func (d *directory) started() (list uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.listNumber()
}

// listNumber changes with everything that a List begun before it might not show.
func (d *directory) listNumber() uint64 { return d.generation + d.firstDeltas }

// install takes a List made since started returned its number. It reports whether
// the directory is loaded now.
func (d *directory) install(list uint64, listed listed) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages == nil && d.listNumber() == list {
		d.pages = make(map[page.Prefix]entry, len(listed.pages))
		d.sums = map[int]tally{}
		d.unknown = 0
		for p := range listed.pages {
			if _, leftover := p.CoveredBy(listed.pages); !leftover {
				d.pages[p] = entry{delta: listed.deltas[p]}
				d.unknown++
			}
		}
	}
	return d.pages != nil
}

func (d *directory) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.generation++
	d.drops++
	d.pages, d.sums, d.unknown = nil, nil, 0
}

// route returns the page that covers hash h. Without one, the tenant has no
// page yet if empty is true, and a page is missing if it is false.
func (d *directory) route(h page.Hash) (p page.Prefix, found, empty, loaded bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages == nil {
		return "", false, false, false
	}
	bits := h.Bits()
	for i := range page.MaxDepth + 1 {
		p := page.Prefix(bits[:i])
		if _, ok := d.pages[p]; ok {
			return p, true, false, true
		}
	}
	return "", false, len(d.pages) == 0, true
}

// saw notes the header of a page that was read under its lock.
func (d *directory) saw(p page.Prefix, h page.Header) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.pages[p]; ok {
		d.set(p, h)
	}
}

// wrote notes a page that was put with success.
func (d *directory) wrote(p page.Prefix, h page.Header) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.pages[p]; ok {
		d.set(p, h)
		d.markWrittenHere(p)
	}
}

// wroteDelta notes that a page's delta was put successfully, and the page's header
// with it. It is called before the changes are acknowledged: a reader that looks for
// the page then knows of the delta.
func (d *directory) wroteDelta(p page.Prefix, h page.Header) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.pages[p]
	if !ok || !e.delta {
		d.firstDeltas++
	}
	if ok {
		e.delta = true
		d.pages[p] = e
		d.set(p, h)
	}
}

// deletedDelta notes that a page's delta is not in storage any more.
func (d *directory) deletedDelta(p page.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e, ok := d.pages[p]; ok {
		e.delta = false
		d.pages[p] = e
	}
}

// mayHaveDelta reports whether a page may have a delta: false is sure.
func (d *directory) mayHaveDelta(p page.Prefix) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.pages[p]
	return !ok || e.delta
}

// writtenHere reports whether this process has put the page, with success, and no write of
// the tenant's pages has failed since.
func (d *directory) writtenHere(p page.Prefix) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pages[p].writtenHere
}

// learn notes the header of a page that was read without its lock, which may
// have been written since: then what is known already stands. A drop in between may
// have forgotten such a write; splits of other pages change nothing.
func (d *directory) learn(drops uint64, p page.Prefix, h page.Header) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e, ok := d.pages[p]; ok && !e.known && d.drops == drops {
		d.set(p, h)
	}
}

// change notes that the page gone was replaced by others: a split, or, with
// none gone, a new root. It comes after the writes.
func (d *directory) change(gone *page.Prefix, added map[page.Prefix]page.Header) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.generation++
	if d.pages == nil {
		return
	}
	if gone != nil {
		d.remove(*gone)
	}
	for p, h := range added {
		if _, ok := d.pages[p]; !ok {
			d.pages[p] = entry{}
			d.unknown++
		}
		d.set(p, h)
		d.markWrittenHere(p)
	}
}

// markWrittenHere notes that this process has put a page, which is in the directory; d.mu is
// held.
func (d *directory) markWrittenHere(p page.Prefix) {
	e := d.pages[p]
	e.writtenHere = true
	d.pages[p] = e
}

// set and remove keep the sums; the page is in the directory and d.mu is held.
func (d *directory) set(p page.Prefix, h page.Header) {
	e := d.pages[p]
	d.remove(p)
	e.Header, e.known = h, true
	d.pages[p] = e
	t := d.sums[h.Version]
	d.sums[h.Version] = tally{t.pages + 1, t.items.Plus(h.Counts)}
}

func (d *directory) remove(p page.Prefix) {
	e, ok := d.pages[p]
	if !ok {
		return
	}
	delete(d.pages, p)
	if !e.known {
		d.unknown--
		return
	}
	t := d.sums[e.Version]
	d.sums[e.Version] = tally{t.pages - 1, t.items.Minus(e.Counts)}
}

// headersToRead returns the pages whose header is not known, and what to learn one
// under that is read from now on.
func (d *directory) headersToRead() (drops uint64, places []page.Prefix, loaded bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unknown > 0 {
		places = make([]page.Prefix, 0, d.unknown)
		for p, e := range d.pages {
			if !e.known {
				places = append(places, p)
			}
		}
		slices.Sort(places) // a run that is repeated reads them in the same order
	}
	return d.drops, places, d.pages != nil
}

// tallies returns the sums by version, once every header is known.
func (d *directory) tallies() (sums map[int]tally, complete bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages == nil || d.unknown > 0 {
		return nil, false
	}
	sums = make(map[int]tally, len(d.sums))
	for v, t := range d.sums {
		if t.pages > 0 {
			sums[v] = t
		}
	}
	return sums, true
}

// leaves returns the pages that count, with what is known of them.
func (d *directory) leaves() (pages map[page.Prefix]entry, loaded bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages == nil {
		return nil, false
	}
	pages = make(map[page.Prefix]entry, len(d.pages))
	for p, e := range d.pages {
		pages[p] = e
	}
	return pages, true
}
