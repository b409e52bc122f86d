// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"path"
	"slices"
	"strconv"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

var (
	errTaken     = errors.New("an item of that name is there, with another content; --overwrite replaces it")
	errTwin      = errors.New("the secret at PATH itself has that name")
	errDifferent = errors.New("the item does not read back as it was written")
	errAnswers   = errors.New("the engine answers for another number of items than it was asked for")
)

// notThere is what the engine says of an item that is not there.
const notThere = "item not found"

// outcome is what became of a secret.
type outcome struct {
	imported, overwritten, current bool
	err                            error // none of them
}

// move brings a batch into the tenant, and counts it.
func (j *importJob) move(ctx context.Context, batch []*secret, p *importProgress) error {
	going := j.passOver(batch, p)
	if len(going) == 0 {
		return nil
	}
	var outcomes []outcome
	// All of it again after a failure: what has been written by then compares equal.
	err := j.source.lasting(ctx, func() (err error) {
		outcomes, err = j.bring(ctx, going)
		return err
	})
	if err != nil {
		return err
	}
	for i, o := range outcomes {
		switch {
		case o.imported:
			p.Imported++
		case o.overwritten:
			p.Overwritten++
		case o.current:
			p.Current++
		default:
			j.refuse(going[i], o.err, p)
		}
	}
	return nil
}

// passOver counts a batch, and returns what is to be brought into the tenant.
func (j *importJob) passOver(batch []*secret, p *importProgress) (going []*secret) {
	for _, s := range batch {
		if !s.present {
			continue // it was deleted after it was listed
		}
		p.Scanned++
		if s.err == nil && !j.source.folder && s.path != j.source.path && s.name == path.Base(j.source.path) {
			s.err = errTwin
		}
		switch {
		case errors.Is(s.err, errDeleted):
			p.Deleted++
		case s.err != nil:
			j.refuse(s, s.err, p)
		default:
			going = append(going, s)
		}
	}
	return going
}

func (j *importJob) refuse(s *secret, err error, p *importProgress) {
	p.Refused++
	j.a.tellRefused(j.source.mount+s.path, err)
}

// bring writes secrets as items, reads them back and compares.
func (j *importJob) bring(ctx context.Context, going []*secret) ([]outcome, error) {
	written := make([]client.BulkResult, len(going))
	var err error
	if !j.o.dryRun {
		if written, err = j.write(ctx, going, nil); err != nil {
			return nil, err
		}
	}
	items, err := j.readBack(ctx, going)
	if err != nil {
		return nil, err
	}
	outcomes := make([]outcome, len(going))
	var replaced []int // where an item is in the way, and may be replaced
	for i, s := range going {
		outcomes[i] = j.judge(s, written[i], &items[i])
		if outcomes[i].overwritten {
			replaced = append(replaced, i)
		}
	}
	if len(replaced) == 0 || j.o.dryRun {
		return outcomes, nil
	}
	return outcomes, j.replace(ctx, going, items, replaced, outcomes)
}

// judge says what became of a secret, by what its write was answered and what was read
// back. One that is to be overwritten is overwritten by the caller.
func (j *importJob) judge(s *secret, written client.BulkResult, item *client.ItemResult) outcome {
	isNew := written.Revision > 0
	switch {
	case item.Error == notThere && j.o.dryRun:
		return outcome{imported: true}
	case item.Error != "" && written.Error != "":
		return outcome{err: errors.New(written.Error)}
	case item.Error != "":
		return outcome{err: errors.New(item.Error)}
	case s.is(&item.Item):
		return outcome{imported: isNew, current: !isNew}
	case isNew:
		return outcome{err: errDifferent}
	case !j.o.overwrite:
		return outcome{err: errTaken}
	default:
		return outcome{overwritten: true}
	}
}

// replace writes secrets over items of another content, which must still be as they were
// read, and compares again.
func (j *importJob) replace(ctx context.Context, going []*secret, items []client.ItemResult, which []int, outcomes []outcome) error {
	some, revisions := make([]*secret, len(which)), make([]int, len(which))
	for n, i := range which {
		some[n], revisions[n] = going[i], items[i].Revision
	}
	written, err := j.write(ctx, some, revisions)
	if err != nil {
		return err
	}
	back, err := j.readBack(ctx, some)
	if err != nil {
		return err
	}
	for n, i := range which {
		switch {
		case written[n].Error != "":
			outcomes[i] = outcome{err: errors.New(written[n].Error)}
		case back[n].Error != "" || !some[n].is(&back[n].Item):
			outcomes[i] = outcome{err: errDifferent}
		}
	}
	return nil
}

func (j *importJob) readBack(ctx context.Context, some []*secret) ([]client.ItemResult, error) {
	names := make([]client.ItemName, len(some))
	for i, s := range some {
		names[i] = client.ItemName{Kind: j.o.kind, Name: s.name}
	}
	return j.target.ReadItems(ctx, names)
}

// write writes items that must not be there, or have the revisions given. What a request
// as a whole is refused for is looked for in its halves.
func (j *importJob) write(ctx context.Context, going []*secret, revisions []int) ([]client.BulkResult, error) {
	items := make([]client.BulkItem, len(going))
	for i, s := range going {
		cas := 0
		if revisions != nil {
			cas = revisions[i]
		}
		items[i] = client.BulkItem{Kind: j.o.kind, Name: s.name, ItemWrite: client.ItemWrite{Data: s.data, Metadata: s.metadata, CAS: &cas}}
	}
	results, err := j.target.WriteItems(ctx, items)
	if err == nil && len(results) != len(items) {
		return nil, errAnswers
	}
	if err == nil || !errors.Is(err, client.ErrInvalid) && !errors.Is(err, client.ErrTooLarge) {
		return results, err
	}
	if len(going) == 1 {
		return []client.BulkResult{{Error: err.Error()}}, nil
	}
	half := len(going) / 2
	left, right := revisions, revisions
	if revisions != nil {
		left, right = revisions[:half], revisions[half:]
	}
	first, err := j.write(ctx, going[:half], left)
	if err != nil {
		return nil, err
	}
	second, err := j.write(ctx, going[half:], right)
	return append(first, second...), err
}

// is reports whether an item has what the secret has.
func (s *secret) is(item *client.Item) bool {
	return item.Data != nil && sameJSON(s.data, item.Data) && maps.Equal(s.metadata, item.Metadata)
}

// sameJSON reports whether two values are the same. A number may be written in another
// way: the engine refuses those that it would change.
func sameJSON(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, is := b.(map[string]any)
		return is && maps.EqualFunc(a, b, sameJSON)
	case []any:
		b, is := b.([]any)
		return is && slices.EqualFunc(a, b, sameJSON)
	case json.Number:
		b, is := b.(json.Number)
		return is && (a == b || sameNumber(a, b))
	default:
		return a == b
	}
}

func sameNumber(a, b json.Number) bool {
	x, errX := strconv.ParseFloat(a.String(), 64)
	y, errY := strconv.ParseFloat(b.String(), 64)
	return errX == nil && errY == nil && x == y
}
