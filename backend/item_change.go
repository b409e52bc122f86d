// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
)

func casField(raw map[string]any) (item.Cas, error) {
	value, named := raw["cas"]
	if !named || value == nil {
		return item.Cas{}, nil
	}
	n, whole := api.WholeNumber(value)
	if !whole || n < 0 {
		return item.Cas{}, api.Invalid("cas must be a whole number, 0 or more")
	}
	return item.Cas{Named: true, Revision: uint64(n)}, nil
}

func parseWrite(raw map[string]any, request item.Request, now func() time.Time) (w item.Write, err error) {
	w.Change = item.Change{Request: request, Now: now}
	if w.Cas, err = casField(raw); err != nil {
		return item.Write{}, err
	}
	data, ok := raw["data"].(map[string]any)
	if !ok {
		return item.Write{}, api.Invalid("data must be given, as an object")
	}
	if w.Data, err = api.EncodeData(data); err != nil {
		return item.Write{}, err
	}
	w.Metadata, err = api.ParseMetadata("metadata", raw["metadata"])
	return w, err
}

// patch merges into data and metadata, as RFC 7396 has it.
type patch struct {
	item.Change
	data, metadata map[string]any // nil: not named
	clearMetadata  bool
}

func parsePatch(raw map[string]any, requestID string, now func() time.Time) (p patch, err error) {
	p.Change = item.Change{Request: item.Request{ID: requestID}, Now: now}
	if p.Cas, err = casField(raw); err != nil {
		return patch{}, err
	}
	if value, named := raw["data"]; named {
		data, ok := value.(map[string]any)
		if !ok {
			return patch{}, api.Invalid("data must be an object")
		}
		if _, err := api.EncodeData(data); err != nil {
			return patch{}, err
		}
		p.data = data
	}
	if value, named := raw["metadata"]; named {
		metadata, ok := value.(map[string]any)
		if !ok && value != nil {
			return patch{}, api.Invalid("metadata must be an object of strings")
		}
		p.metadata, p.clearMetadata = metadata, value == nil
	}
	if p.data == nil && p.metadata == nil && !p.clearMetadata {
		return patch{}, api.Invalid("a patch must have data or metadata")
	}
	return p, nil
}

func (p patch) merge(cur *item.Item) (*item.Item, error) {
	if cur == nil {
		return nil, item.ErrNotFound
	}
	next, done, err := p.Next(cur.Name, cur)
	if err != nil || done {
		return next, err
	}
	if next.Data, err = p.mergeData(cur.Data); err != nil {
		return nil, err
	}
	if !next.HasData() {
		next.Revision = 0 // it begins with the first data
	}
	next.Metadata, err = p.mergeMetadata(cur.Metadata)
	return next, err
}

func (p patch) mergeData(cur []byte) ([]byte, error) {
	if p.data == nil {
		return cur, nil
	}
	return api.MergeData(cur, p.data)
}

func (p patch) mergeMetadata(cur map[string]string) (map[string]string, error) {
	switch {
	case p.clearMetadata:
		return nil, nil
	case p.metadata == nil:
		return cur, nil
	}
	return api.MergeMetadata("metadata", cur, p.metadata)
}
