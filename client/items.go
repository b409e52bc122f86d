// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// MaxBulkItems is how many items one call of [Tenant.WriteItems] takes.
const MaxBulkItems = 10_000

// Item is an item as it is read. Numbers in Data are [json.Number].
type Item struct {
	Data       map[string]any    `json:"data"`     // the secret
	Metadata   map[string]string `json:"metadata"` // not secret
	Revision   int               `json:"revision"` // from 1
	KeyVersion int               `json:"key_version"`
	CreatedAt  time.Time         `json:"created_at"`
	UpdatedAt  time.Time         `json:"updated_at"`
}

// ItemWrite is what is written. CAS is the revision that the item must have, 0
// that it must not exist, nil any.
type ItemWrite struct {
	Data     map[string]any    `json:"data"`
	Metadata map[string]string `json:"metadata,omitempty"`
	CAS      *int              `json:"cas,omitempty"`
}

// ItemPatch is a JSON merge patch (RFC 7396): a nil value removes its key.
type ItemPatch struct {
	Data     map[string]any `json:"data,omitempty"`
	Metadata map[string]any `json:"metadata,omitempty"`
	CAS      *int           `json:"cas,omitempty"`
}

// BulkItem is one item of many.
type BulkItem struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	ItemWrite
}

// BulkResult is what became of one item of many: its revision, or why it was refused.
type BulkResult struct {
	Revision int    `json:"revision"`
	Error    string `json:"error"`
}

// ItemName names an item of many.
type ItemName struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

// ItemResult is an item that was read with others, or why it was not.
type ItemResult struct {
	Item
	Error string `json:"error"` // empty: it was read
}

type revision struct {
	Revision int `json:"revision"`
}

func (t *Tenant) itemPath(kind Kind, name string) (string, error) {
	if err := checkItem(kind, name); err != nil {
		return "", err
	}
	return t.path("/" + string(kind) + "/" + name), nil
}

// Items lists the names of one kind: sorted if whole, in the order of storage if
// in parts.
func (t *Tenant) Items(ctx context.Context, kind Kind, p Page) ([]string, error) {
	if err := kind.check(); err != nil {
		return nil, err
	}
	return t.c.list(ctx, "list items", t.path("/"+string(kind)), p)
}

// Unreadable is a page of items that could not be read.
type Unreadable struct {
	Place  string `json:"place"`
	Reason string `json:"reason"`
}

// ReadableItems is [Tenant.Items], and goes past pages that cannot be read: it returns the
// names that can, and where some are missing.
func (t *Tenant) ReadableItems(ctx context.Context, kind Kind, p Page) (names []string, gaps []Unreadable, err error) {
	if err := kind.check(); err != nil {
		return nil, nil, err
	}
	query := p.query()
	query.Set("partial", "true")
	var answer struct {
		Keys       []string     `json:"keys"`
		Unreadable []Unreadable `json:"unreadable"`
	}
	err = t.c.do(ctx, call{op: "list readable items", method: http.MethodGet, path: t.path("/" + string(kind)), query: query}, &answer)
	if isEmptyList(err) {
		return nil, nil, nil
	}
	return answer.Keys, answer.Unreadable, err
}

// ReadItem reads an item.
func (t *Tenant) ReadItem(ctx context.Context, kind Kind, name string) (*Item, error) {
	path, err := t.itemPath(kind, name)
	if err != nil {
		return nil, err
	}
	item := new(Item)
	err = t.c.do(ctx, call{op: "read item", method: http.MethodGet, path: path}, item)
	return orNil(item, err)
}

// WriteItem creates or replaces an item, and returns its revision. It is not
// repeated when its outcome is unknown: that could undo a later write.
func (t *Tenant) WriteItem(ctx context.Context, kind Kind, name string, w ItemWrite) (int, error) {
	return t.changeItem(ctx, "write item", http.MethodPut, kind, name, w)
}

// PatchItem changes parts of an item, and returns its revision. It is repeated as
// WriteItem is.
func (t *Tenant) PatchItem(ctx context.Context, kind Kind, name string, p ItemPatch) (int, error) {
	return t.changeItem(ctx, "patch item", http.MethodPatch, kind, name, p)
}

func (t *Tenant) changeItem(ctx context.Context, op, method string, kind Kind, name string, body any) (int, error) {
	path, err := t.itemPath(kind, name)
	if err != nil {
		return 0, err
	}
	var answer revision
	err = t.c.do(ctx, call{op: op, method: method, path: path, body: body, repeat: ifRefused}, &answer)
	return answer.Revision, err
}

// DeleteItem deletes an item, with cas only if it has that revision. It is not
// repeated when its outcome is unknown: by then the name may be a new item's.
func (t *Tenant) DeleteItem(ctx context.Context, kind Kind, name string, cas *int) error {
	path, err := t.itemPath(kind, name)
	if err != nil {
		return err
	}
	query := url.Values{}
	if cas != nil {
		query.Set("cas", strconv.Itoa(*cas))
	}
	return t.c.do(ctx, call{op: "delete item", method: http.MethodDelete, path: path, query: query, repeat: ifRefused}, nil)
}

// WriteItems writes up to [MaxBulkItems] items, each by itself: the results come
// in the same order. It is repeated as WriteItem is.
func (t *Tenant) WriteItems(ctx context.Context, items []BulkItem) ([]BulkResult, error) {
	var answer struct {
		Results []BulkResult `json:"results"`
	}
	err := t.c.do(ctx, call{
		op: "write items", method: http.MethodPut, path: t.path("/items"), repeat: ifRefused,
		body: map[string]any{"items": items},
	}, &answer)
	return answer.Results, err
}

// ReadItems reads up to [MaxBulkItems] items: the results come in the same order. The
// engine bounds what one answer holds (16 MiB); items for which there was no room are
// asked for in further requests, so the results of all are in memory together.
func (t *Tenant) ReadItems(ctx context.Context, items []ItemName) ([]ItemResult, error) {
	results := make([]ItemResult, len(items))
	left := make([]int, len(items)) // the places of those that are to be read
	for i := range items {
		left[i] = i
	}
	for len(left) > 0 {
		wanted := make([]ItemName, len(left))
		for n, i := range left {
			wanted[n] = items[i]
		}
		got, leftOut, err := t.readItems(ctx, wanted)
		if err != nil {
			return nil, err
		}
		for n, i := range left {
			results[i] = got[n]
		}
		if len(leftOut) == len(left) {
			break // no item has room: asking again does not help
		}
		for n, place := range leftOut {
			leftOut[n] = left[place]
		}
		left = leftOut
	}
	return results, nil
}

func (t *Tenant) readItems(ctx context.Context, items []ItemName) (results []ItemResult, leftOut []int, err error) {
	var answer struct {
		Results []ItemResult `json:"results"`
		LeftOut []int        `json:"left_out"`
	}
	const op = "read items"
	err = t.c.do(ctx, call{
		op: op, method: http.MethodPut, path: t.path("/items/read"), body: map[string]any{"items": items},
	}, &answer)
	isPlace := func(i int) bool { return i >= 0 && i < len(items) }
	if err == nil && (len(answer.Results) != len(items) || slices.ContainsFunc(answer.LeftOut, func(i int) bool { return !isPlace(i) })) {
		err = &Error{Op: op, Status: http.StatusBadGateway, Message: "the results are not those of the items that were asked for"}
	}
	return answer.Results, answer.LeftOut, err
}
