// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// A delta is an entry beside a page that holds the items changed since the page was
// put. To put it costs storage a fraction of what the page costs, so a few changes
// go there, and then the page is put again with all of them.
//
// These rules keep it from losing what was acknowledged; docs/model/delta.py finds a
// loss without any of them:
//
//   - It names the Put of the page that it belongs to, by its mark, and counts with
//     no other: a page that is put anew leaves its delta behind.
//   - It is put only onto a page that this process has put with success. What the
//     page showed, if another process has put it, may be older than what is stored.
//   - After a Put that failed, of a page or a delta of the tenant, no page is taken
//     for this process's own until it has been put again.
//   - A reader reads the delta before its page, and the directory knows of a delta
//     before what is in it is acknowledged.
//   - What a page shows is not acknowledged as done before, unless the page is this
//     process's own: see mayPass.
//   - Before a delta is deleted, nobody is shown the page that it belonged to any more.
//
// A delta is sealed by its page's key. It is put only while that is the active
// version, so once all pages are on another version, all deltas that count are too.

// deltaHeaderSize is the length of what precedes the sealed slots of a delta: the
// header of the page as it is with the delta, and the mark of the page.
const deltaHeaderSize = headerSize + markSize

// minDeltaPage is the size of a page, with the change, from which on it is given
// deltas: a smaller one is put about as fast.
const minDeltaPage = 8 << 10

var errDelta = errors.New("delta is malformed")

// belongs reports whether a delta is of this Put of its page. It fails if the delta
// is malformed, or the page that it names.
func belongs(delta, page []byte) (bool, error) {
	h, rest, err := parseHeader(delta)
	if err != nil || len(rest) < markSize {
		return false, errDelta
	}
	if mark(rest[:markSize]) != markOf(page) {
		return false, nil
	}
	of, _, err := parseHeader(page)
	if err != nil || of.Version != h.Version {
		return false, errDelta
	}
	return true, nil
}

// deltaAD binds a delta to its tenant, its place, its header and its page.
func deltaAD(o keyring.Owner, p Place, header []byte) []byte {
	return keyring.AssociatedData("vault-plugin-dek/delta/v1", o.Tenant, o.Incarnation, string(p), string(header))
}

// sealDelta seals what has changed since the page with mark m was put; h is the
// header that the page has with the changes.
func sealDelta(o keyring.Owner, p Place, h Header, m mark, a keyring.AEAD, changed slots) ([]byte, error) {
	header := append(h.encode(), m[:]...)
	sealed, err := a.Seal(changed.encode(), deltaAD(o, p, header))
	if err != nil {
		return nil, fmt.Errorf("sealing the delta of page %s: %w", p, err)
	}
	return append(header, sealed...), nil
}

// add adds to a page what its delta holds.
func (o *opened) add(owner keyring.Owner, p Place, a keyring.AEAD, delta []byte) error {
	h, _, err := parseHeader(delta)
	if err != nil {
		return fmt.Errorf("delta of page %s: %w: %w", p, ErrPageDamaged, err)
	}
	encoded, err := a.Open(delta[deltaHeaderSize:], deltaAD(owner, p, delta[:deltaHeaderSize]))
	if err != nil {
		return fmt.Errorf("delta of page %s: %w", p, ErrPageDamaged)
	}
	if o.changed, err = decodeSlots(encoded); err != nil {
		return fmt.Errorf("delta of page %s: %w", p, err)
	}
	o.Header = h
	o.slots, err = o.slots.with(o.changed)
	return err
}

// with returns the slots after those of changed have been put into them.
func (s slots) with(changed slots) (slots, error) {
	merged := make(slots, len(s), len(s)+len(changed))
	copy(merged, s)
	for _, sl := range changed {
		var err error
		if merged, err = merged.put(sl); err != nil {
			return nil, err
		}
	}
	return merged, nil
}

// put places a slot in place of the one of the same item, if there is one. It
// changes s.
func (s slots) put(sl slot) (slots, error) {
	name, err := nameOf(sl.Item)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPageDamaged, err)
	}
	i := s.from(sl.Hash)
	for ; i < len(s) && s[i].Hash == sl.Hash; i++ {
		other, err := nameOf(s[i].Item)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPageDamaged, err)
		}
		if s[i].Kind == sl.Kind && other == name {
			s[i] = sl
			return s, nil
		}
	}
	return slices.Insert(s, i, sl), nil
}

// mayPass reports whether what page p shows may pass, since a stale cache may show a
// page, or a page and its delta, that is not what storage has. So what a repeated
// request finds done already is put with the page before it is acknowledged.
func (s *Store) mayPass(w *working, p Place, cur writable) bool {
	return cur.mark != mark{} && !w.dir.isOwn(p)
}

// goesToDelta reports whether changes that were made to page p are put as its delta.
//
// To change one more item puts again what the delta holds already, so to change n has
// cost n times half of what it holds in the end. Before that comes to half of the size
// of the page, the page is put.
func (s *Store) goesToDelta(t *Tenant, w *working, p Place, cur writable, e *edit) bool {
	puts := max(2, len(e.sincePut))
	return !e.removed && e.bytes >= minDeltaPage && puts*e.sincePut.size() <= e.bytes &&
		cur.Version == t.Keys.Active().Number && w.dir.isOwn(p)
}

// writeDelta puts the delta of page p, which is to hold what has changed since the
// page was put.
func (s *Store) writeDelta(ctx context.Context, t *Tenant, w *working, p Place, cur writable, e *edit) error {
	v, a, err := s.activeAEAD(ctx, t)
	if err != nil {
		return err
	}
	h := Header{Version: v.Number, Counts: e.slots.counts()}
	delta, err := sealDelta(t.Owner(), p, h, cur.mark, a, e.sincePut)
	if err != nil {
		return err
	}
	key := deltaKey(w.incarnation, p)
	s.pages.begin(key)
	if err := s.put(ctx, w, key, delta); err != nil {
		s.pages.end(key, nil)
		return fmt.Errorf("writing the delta of page %s: %w", p, err)
	}
	s.pages.end(key, delta)
	w.dir.wroteDelta(p, h)
	return nil
}

// deleteDelta deletes a delta that does not count any more, after the page it belonged
// to was replaced or deleted where everyone sees it. A reader that still were shown
// that page would miss the delta.
func (s *Store) deleteDelta(ctx context.Context, w *working, p Place) error {
	s.pages.drop(pageKey(w.incarnation, p))
	if err := s.deleteEntry(ctx, w, deltaKey(w.incarnation, p)); err != nil {
		return fmt.Errorf("deleting the delta of page %s: %w", p, err)
	}
	w.dir.deletedDelta(p)
	return nil
}
