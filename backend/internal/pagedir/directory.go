// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package pagedir

import (
	"slices"
	"sync"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
)

// Directory caches which pages a tenant has, and their headers. It holds the current
// pages; those left over from an unfinished split appear only in a fresh List.
//
// Such a cache is easily wrong, so its rules are strict. It is dropped on any error of
// a write. A List that began before a drop, or before a split that the directory was
// notified of, is never installed: a drop and a split each start a new generation. A
// caller that finds a page by it looks again under the page's lock.
type Directory struct {
	mu          sync.Mutex
	generation  uint64
	drops       uint64                // how often what was known of pages was forgotten
	firstDeltas uint64                // how often a page got a delta that had none
	pages       map[page.Prefix]Entry // nil while not loaded
	sums        map[int]tally         // of the pages whose header is known, by version
	unknown     int                   // how many headers are not known
}

// Entry is what is known of a page.
type Entry struct {
	page.Header
	Known       bool // the header is
	delta       bool // a List has shown a delta, or one was put since
	writtenHere bool // this process has put the page, and since then no Put failed
}

// Size returns how many pages it holds.
func (d *Directory) Size() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pages)
}

// BeginList is called before a List is made. Install takes the number that it returns, to
// tell whether something has changed meanwhile that the List might not show.
func (d *Directory) BeginList() (number uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.listNumber()
}

// listNumber grows with every change that a List begun before it might not show: a drop, a
// split or a new root, and a page's first delta.
func (d *Directory) listNumber() uint64 { return d.generation + d.firstDeltas }

// Install takes a List, unless one is installed, or something has changed since BeginList
// returned number. It reports whether the directory is loaded now.
func (d *Directory) Install(number uint64, listed Listed) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages == nil && d.listNumber() == number {
		d.pages = make(map[page.Prefix]Entry, len(listed.Pages))
		d.sums = map[int]tally{}
		d.unknown = 0
		for p := range listed.Pages {
			if _, leftover := p.CoveredBy(listed.Pages); !leftover {
				d.pages[p] = Entry{delta: listed.Deltas[p]}
				d.unknown++
			}
		}
	}
	return d.pages != nil
}

// Drop forgets all pages, so that they are listed again.
func (d *Directory) Drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.generation++
	d.drops++
	d.pages, d.sums, d.unknown = nil, nil, 0
}

// Route returns the page that covers hash h. Without one, the tenant has no
// page yet if empty is true, and a page is missing if it is false.
func (d *Directory) Route(h page.Hash) (p page.Prefix, found, empty, loaded bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pages == nil {
		return "", false, false, false
	}
	p, found = d.covering(h)
	return p, found, len(d.pages) == 0, true
}

// covering returns the page that covers hash h. d.mu is held.
func (d *Directory) covering(h page.Hash) (p page.Prefix, found bool) {
	bits := h.Bits()
	for i := range page.MaxDepth + 1 {
		p := page.Prefix(bits[:i])
		if _, ok := d.pages[p]; ok {
			return p, true
		}
	}
	return "", false
}

// Saw notes the header of a page that was read under its lock.
func (d *Directory) Saw(p page.Prefix, h page.Header) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.pages[p]; ok {
		d.set(p, h)
	}
}

// Wrote notes a page that was put with success.
func (d *Directory) Wrote(p page.Prefix, h page.Header) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.pages[p]; ok {
		d.set(p, h)
		d.markWrittenHere(p)
	}
}

// WroteDelta notes that a page's delta was put successfully, and the page's header
// with it. It is called before the changes are acknowledged: a reader that looks for
// the page then knows of the delta.
func (d *Directory) WroteDelta(p page.Prefix, h page.Header) {
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

// DeletedDelta notes that a page's delta is not in storage any more.
func (d *Directory) DeletedDelta(p page.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e, ok := d.pages[p]; ok {
		e.delta = false
		d.pages[p] = e
	}
}

// MayHaveDelta reports whether a page may have a delta: false is sure.
func (d *Directory) MayHaveDelta(p page.Prefix) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.pages[p]
	return !ok || e.delta
}

// WrittenHere reports whether this process has put the page, with success, and no write of
// the tenant's pages has failed since.
func (d *Directory) WrittenHere(p page.Prefix) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pages[p].writtenHere
}

// Learn notes the header of a page that was read without its lock, which may
// have been written since: then what is known already stands. A drop in between may
// have forgotten such a write; splits of other pages change nothing.
func (d *Directory) Learn(drops uint64, p page.Prefix, h page.Header) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e, ok := d.pages[p]; ok && !e.Known && d.drops == drops {
		d.set(p, h)
	}
}

// Change notes that the page gone was replaced by others: a split, or, with
// none gone, a new root. It comes after the writes.
func (d *Directory) Change(gone *page.Prefix, added map[page.Prefix]page.Header) {
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
			d.pages[p] = Entry{}
			d.unknown++
		}
		d.set(p, h)
		d.markWrittenHere(p)
	}
}

// markWrittenHere notes that this process has put a page, which is in the directory; d.mu is
// held.
func (d *Directory) markWrittenHere(p page.Prefix) {
	e := d.pages[p]
	e.writtenHere = true
	d.pages[p] = e
}

// set and remove keep the sums; the page is in the directory and d.mu is held.
func (d *Directory) set(p page.Prefix, h page.Header) {
	e := d.pages[p]
	d.remove(p)
	e.Header, e.Known = h, true
	d.pages[p] = e
	t := d.sums[h.Version]
	d.sums[h.Version] = tally{t.pages + 1, t.items.Plus(h.Counts)}
}

func (d *Directory) remove(p page.Prefix) {
	e, ok := d.pages[p]
	if !ok {
		return
	}
	delete(d.pages, p)
	if !e.Known {
		d.unknown--
		return
	}
	t := d.sums[e.Version]
	d.sums[e.Version] = tally{t.pages - 1, t.items.Minus(e.Counts)}
}

// HeadersToRead returns the pages whose headers are not known, sorted. The caller reads
// them and passes drops to Learn, which tells whether the directory was dropped meanwhile.
func (d *Directory) HeadersToRead() (drops uint64, places []page.Prefix, loaded bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unknown > 0 {
		places = make([]page.Prefix, 0, d.unknown)
		for p, e := range d.pages {
			if !e.Known {
				places = append(places, p)
			}
		}
		slices.Sort(places) // a run that is repeated reads them in the same order
	}
	return d.drops, places, d.pages != nil
}

// Gap returns the largest prefix that covers h and no page. No page covers h.
func (d *Directory) Gap(h page.Hash) page.Prefix {
	d.mu.Lock()
	defer d.mu.Unlock()
	bits := h.Bits()
	for i := range page.MaxDepth {
		p := page.Prefix(bits[:i])
		if !d.anyWithin(p) {
			return p
		}
	}
	return page.Prefix(bits)
}

// anyWithin reports whether a page covers a part of what p covers. d.mu is held.
func (d *Directory) anyWithin(p page.Prefix) bool {
	for q := range d.pages {
		if q.First() <= p.Last() && p.First() <= q.Last() {
			return true
		}
	}
	return false
}
