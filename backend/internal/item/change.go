// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package item

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Cas is the revision that an item must have to be changed.
type Cas struct {
	Named    bool
	Revision uint64 // 0: it must not exist
}

// Check compares with the item as it is, nil if there is none. It fails with
// [ErrRevision].
func (c Cas) Check(cur *Item) error {
	var has uint64
	if cur != nil {
		has = cur.Revision
	}
	switch {
	case !c.Named || has == c.Revision:
		return nil
	case cur == nil:
		return fmt.Errorf("%w: cas is %d, but there is no such item", ErrRevision, c.Revision)
	default:
		return fmt.Errorf("%w: cas is %d, but the item has revision %d", ErrRevision, c.Revision, has)
	}
}

// Request names a request, or one entry of a bulk request.
type Request struct {
	ID    string
	Entry int
}

// String is what an item keeps of the request that wrote it last.
func (r Request) String() string {
	if r.ID == "" {
		return ""
	}
	return r.ID + "#" + strconv.Itoa(r.Entry)
}

// Wrote reports whether the request has written the item already: Vault sends one
// again, with the same ID, after the plugin has crashed. An item that an entry further
// down the same request wrote was written by this one before.
func (r Request) Wrote(cur *Item) bool {
	if cur == nil || r.ID == "" {
		return false
	}
	rest, same := strings.CutPrefix(cur.RequestID, r.ID+"#")
	entry, err := strconv.Atoi(rest)
	return same && err == nil && entry >= r.Entry
}

// Change is what writes and patches have in common.
type Change struct {
	Cas     Cas
	Request Request
	Now     func() time.Time
}

// Next returns the item that follows cur, without content. done says that the request
// has written cur already. It fails with [ErrRevision].
func (c Change) Next(name string, cur *Item) (next *Item, done bool, err error) {
	if c.Request.Wrote(cur) {
		return cur, true, nil
	}
	if err := c.Cas.Check(cur); err != nil {
		return nil, false, err
	}
	now := c.Now()
	next = &Item{Name: name, Revision: 1, CreatedAt: now, UpdatedAt: now, RequestID: c.Request.String()}
	if cur != nil {
		next.Revision, next.CreatedAt = cur.Revision+1, cur.CreatedAt
	}
	return next, false, nil
}

// Write replaces data and metadata.
type Write struct {
	Change
	Data     []byte // a JSON object
	Metadata map[string]string
}

// Replace returns the change that writes data and metadata to the item of that name.
func (w Write) Replace(name string) func(*Item) (*Item, error) {
	return func(cur *Item) (*Item, error) {
		next, done, err := w.Next(name, cur)
		if err != nil || done {
			return next, err
		}
		next.Data, next.Metadata = w.Data, w.Metadata
		return next, nil
	}
}

// ReplaceData returns the change that writes data and leaves the metadata of the item of
// that name as they are.
func (w Write) ReplaceData(name string) func(*Item) (*Item, error) {
	return func(cur *Item) (*Item, error) {
		next, done, err := w.Next(name, cur)
		if err != nil || done {
			return next, err
		}
		next.Data = w.Data
		if cur != nil {
			next.Metadata = cur.Metadata
		}
		return next, nil
	}
}

// Annotate returns the change that gives the item of that name what merge makes of its
// metadata. Revision, times and data stay. If there is no such item, it makes one without
// data.
func (c Change) Annotate(name string, merge func(map[string]string) (map[string]string, error)) func(*Item) (*Item, error) {
	return func(cur *Item) (next *Item, err error) {
		if c.Request.Wrote(cur) {
			return cur, nil
		}
		now := c.Now()
		next = &Item{Name: name, CreatedAt: now, UpdatedAt: now}
		if cur != nil {
			kept := *cur
			next = &kept
		}
		if next.Metadata, err = merge(next.Metadata); err != nil {
			return nil, err
		}
		next.RequestID = c.Request.String()
		return next, nil
	}
}

// Merge is MergePatch of RFC 7396, section 2, for a patch that is an object. It changes
// target.
func Merge(target, patch map[string]any) map[string]any {
	if target == nil {
		target = map[string]any{}
	}
	for name, value := range patch {
		switch v := value.(type) {
		case nil:
			delete(target, name)
		case map[string]any:
			inner, _ := target[name].(map[string]any) // anything else is replaced
			target[name] = Merge(inner, v)
		default:
			target[name] = v
		}
	}
	return target
}
