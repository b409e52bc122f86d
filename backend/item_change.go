// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
)

// expected is the revision that an item must have to be changed: cas.
type expected struct {
	named    bool
	revision uint64 // 0: it must not exist
}

func casField(raw map[string]any) (expected, error) {
	value, named := raw["cas"]
	if !named || value == nil {
		return expected{}, nil
	}
	n, whole := wholeNumber(value)
	if !whole || n < 0 {
		return expected{}, invalid("cas must be a whole number, 0 or more")
	}
	return expected{named: true, revision: uint64(n)}, nil
}

// check compares with the item as it is, nil if there is none.
func (e expected) check(cur *item.Item) error {
	var has uint64
	if cur != nil {
		has = cur.Revision
	}
	switch {
	case !e.named || has == e.revision:
		return nil
	case has == 0:
		return fmt.Errorf("%w: cas is %d, but there is no such item", item.ErrRevision, e.revision)
	default:
		return fmt.Errorf("%w: cas is %d, but the item has revision %d", item.ErrRevision, e.revision, has)
	}
}

// change is what writes and patches have in common.
type change struct {
	cas     expected
	request requestPart
	now     func() time.Time
}

// requestPart names a request, or one entry of a bulk request.
type requestPart struct {
	id    string
	entry int
}

// String is what an item keeps of the request that wrote it last.
func (r requestPart) String() string {
	if r.id == "" {
		return ""
	}
	return r.id + "#" + strconv.Itoa(r.entry)
}

// wrote reports whether the request has written the item already: Vault sends
// one again, with the same ID, after the plugin has crashed. An item that an
// entry further down the same request wrote was written by this one before.
func (r requestPart) wrote(cur *item.Item) bool {
	if cur == nil || r.id == "" {
		return false
	}
	rest, same := strings.CutPrefix(cur.RequestID, r.id+"#")
	entry, err := strconv.Atoi(rest)
	return same && err == nil && entry >= r.entry
}

// next returns the item that follows cur.
func (c change) next(name string, cur *item.Item) *item.Item {
	now := c.now()
	it := &item.Item{Name: name, Revision: 1, CreatedAt: now, UpdatedAt: now, RequestID: c.request.String()}
	if cur != nil {
		it.Revision, it.CreatedAt = cur.Revision+1, cur.CreatedAt
	}
	return it
}

// write replaces data and metadata.
type write struct {
	change
	data     []byte
	metadata map[string]string
}

func parseWrite(raw map[string]any, request requestPart, now func() time.Time) (w write, err error) {
	w.change = change{request: request, now: now}
	if w.cas, err = casField(raw); err != nil {
		return write{}, err
	}
	data, ok := raw["data"].(map[string]any)
	if !ok {
		return write{}, invalid("data must be given, as an object")
	}
	if w.data, err = encodeData(data); err != nil {
		return write{}, err
	}
	w.metadata, err = parseMetadata(raw["metadata"])
	return w, err
}

func (w write) replace(name string) func(*item.Item) (*item.Item, error) {
	return func(cur *item.Item) (*item.Item, error) {
		if w.request.wrote(cur) {
			return cur, nil
		}
		if err := w.cas.check(cur); err != nil {
			return nil, err
		}
		next := w.next(name, cur)
		next.Data, next.Metadata = w.data, w.metadata
		return next, nil
	}
}

// patch merges into data and metadata, as RFC 7396 has it.
type patch struct {
	change
	data, metadata map[string]any // nil: not named
	clearMetadata  bool
}

func parsePatch(raw map[string]any, requestID string, now func() time.Time) (p patch, err error) {
	p.change = change{request: requestPart{id: requestID}, now: now}
	if p.cas, err = casField(raw); err != nil {
		return patch{}, err
	}
	if value, named := raw["data"]; named {
		data, ok := value.(map[string]any)
		if !ok {
			return patch{}, invalid("data must be an object")
		}
		if _, err := encodeData(data); err != nil {
			return patch{}, err
		}
		p.data = data
	}
	if value, named := raw["metadata"]; named {
		metadata, ok := value.(map[string]any)
		if !ok && value != nil {
			return patch{}, errMetadata
		}
		p.metadata, p.clearMetadata = metadata, value == nil
	}
	if p.data == nil && p.metadata == nil && !p.clearMetadata {
		return patch{}, invalid("a patch must have data or metadata")
	}
	return p, nil
}

func (p patch) merge(cur *item.Item) (*item.Item, error) {
	if cur == nil {
		return nil, item.ErrNotFound
	}
	if p.request.wrote(cur) {
		return cur, nil
	}
	if err := p.cas.check(cur); err != nil {
		return nil, err
	}
	next := p.next(cur.Name, cur)
	var err error
	if next.Data, err = p.mergeData(cur.Data); err != nil {
		return nil, err
	}
	next.Metadata, err = p.mergeMetadata(cur.Metadata)
	return next, err
}

func (p patch) mergeData(cur []byte) ([]byte, error) {
	if p.data == nil {
		return cur, nil
	}
	var data map[string]any
	if err := json.Unmarshal(cur, &data); err != nil {
		return nil, page.ErrDamaged // the parser's text may quote the data
	}
	return encodeData(merged(data, p.data))
}

func (p patch) mergeMetadata(cur map[string]string) (map[string]string, error) {
	switch {
	case p.clearMetadata:
		return nil, nil
	case p.metadata == nil:
		return cur, nil
	}
	target := make(map[string]any, len(cur))
	for k, v := range cur {
		target[k] = v
	}
	return parseMetadata(merged(target, p.metadata))
}
