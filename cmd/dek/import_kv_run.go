// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// maxImportBytes is how much data of secrets are collected before they are written: less
// than a request may hold.
const maxImportBytes = 8 << 20

// importProgress is how far an import is. Every secret that was scanned is counted in one
// of the others, too.
type importProgress struct {
	Scanned     int64  `json:"scanned"`
	Imported    int64  `json:"imported"`
	Overwritten int64  `json:"overwritten"`
	Current     int64  `json:"current"` // were there already
	Deleted     int64  `json:"deleted"` // at the source
	Refused     int64  `json:"refused"`
	After       string `json:"after"` // the path up to which all secrets are done
}

// importJob is one run of the command.
type importJob struct {
	a      *app
	o      *importOptions
	source *kvMount
	target *client.Tenant
	keep   *checkpoint[importProgress]
}

// secret is a secret on its way.
type secret struct {
	kvPlace
	data     map[string]any
	metadata map[string]string
	size     int  // of the data, as JSON
	present  bool // the source has it
}

// run moves the secrets, batch by batch.
func (j *importJob) run(ctx context.Context) error {
	if err := j.source.settle(ctx); err != nil {
		return err
	}
	total, err := j.count(ctx)
	if err != nil {
		return err
	}
	m := j.a.meter(total, "importing")
	defer m.finish()
	limit := rate.NewLimiter(rate.Inf, 1)
	if j.o.rate > 0 {
		limit.SetLimit(rate.Limit(j.o.rate))
	}
	next, stop := iter.Pull2(j.source.walk(ctx, j.keep.Progress.After))
	defer stop()
	for {
		batch, err := j.read(ctx, next, limit)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			break
		}
		p := j.keep.Progress
		if err := j.move(ctx, batch, &p); err != nil {
			return err
		}
		p.After = batch[len(batch)-1].path
		if err := j.keep.save(p); err != nil {
			return err
		}
		if err := m.show(p.Scanned, j.event("progress")); err != nil {
			return err
		}
	}
	if j.keep.Progress.Scanned == 0 {
		return errNothing
	}
	return nil
}

// count counts the secrets, if a bar shows how many there are.
func (j *importJob) count(ctx context.Context) (total int64, err error) {
	if !j.a.hasBar() {
		return -1, nil
	}
	for _, err := range j.source.walk(ctx, "") {
		if err != nil {
			return 0, err
		}
		total++
	}
	return total, nil
}

// read reads the next batch: as many secrets as it may have, or fewer large ones.
func (j *importJob) read(ctx context.Context, next func() (kvPlace, error, bool), limit *rate.Limiter) ([]*secret, error) {
	var batch []*secret
	size := 0
	for len(batch) < j.o.batch && size < maxImportBytes {
		var some []*secret
		for len(some) < min(j.o.parallel, j.o.batch-len(batch)) {
			place, err, more := next()
			if err != nil {
				return nil, err
			}
			if !more {
				break
			}
			some = append(some, &secret{kvPlace: place})
		}
		if len(some) == 0 {
			break
		}
		if err := j.readEach(ctx, some, limit); err != nil {
			return nil, err
		}
		for _, s := range some {
			size += s.size
		}
		batch = append(batch, some...)
	}
	return batch, nil
}

// readEach reads secrets at once.
func (j *importJob) readEach(ctx context.Context, some []*secret, limit *rate.Limiter) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range some {
		if s.err != nil {
			s.present = true
			continue
		}
		g.Go(func() error {
			if err := limit.Wait(ctx); err != nil {
				return err
			}
			return j.readOne(ctx, s)
		})
	}
	return g.Wait()
}

// readOne reads one secret. What is wrong with it alone is kept in it.
func (j *importJob) readOne(ctx context.Context, s *secret) (err error) {
	s.data, s.metadata, err = j.source.read(ctx, s.path)
	s.present = s.data != nil || err != nil
	if errors.Is(err, errDeleted) || errors.Is(err, errNoData) || hasStatus(err, http.StatusForbidden) && j.source.tokenIsGood(ctx) {
		s.err, err = err, nil
	}
	if err != nil || s.data == nil {
		return err
	}
	text, err := json.Marshal(s.data)
	s.size = len(text)
	clear(text)
	return err
}

// event is the progress as a line of JSON.
func (j *importJob) event(name string) any {
	return struct {
		Event string `json:"event"`
		importProgress
		DryRun bool `json:"dry_run,omitempty"`
	}{name, j.keep.Progress, j.o.dryRun}
}

// tellEnd tells what was done, and ends with errRefused if something was.
func (j *importJob) tellEnd() error {
	p, verb := j.keep.Progress, "imported"
	if j.o.dryRun {
		verb = "to be imported"
	}
	if err := j.a.tell(j.event("done"), "%d %s, %d overwritten, %d there already, %d deleted at the source, %d refused, of %d",
		p.Imported, verb, p.Overwritten, p.Current, p.Deleted, p.Refused, p.Scanned); err != nil {
		return err
	}
	if p.Refused > 0 {
		return fmt.Errorf("%w: %d are not there as the source has them", errRefused, p.Refused)
	}
	return nil
}
