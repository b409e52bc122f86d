// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package ledger brings what the engine decides into the evidence log.
//
// The Put that decides something carries the event (rule 1 of the evidence log, in
// docs/model/README.md). After it has succeeded the ledger is told of everything that
// the entry carries, hands it to the log's appender, and wakes that. What the log has, as
// of a stored checkpoint, a later Put drops.
//
// The appender is a job of the engine's runner: it works while something waits, and ends
// when the engine stops. A request collects the events that it causes, and waits for
// them a few seconds. The end of a rotation and of a tenant waits for as long as it
// takes, without any lock.
//
// The package knows no record: a room that has one passes what it carries.
package ledger

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/people"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// ErrFull reports an entry that carries as many events as it may: the log could not be
// written for long.
var ErrFull = errors.New("too many events wait for the evidence log, which cannot be written: try again later")

// MaxCarried is how many events an entry may carry.
const MaxCarried = 100

// An Event is one that an entry carries until the log has it.
type Event struct {
	Seq int64 `json:"seq,omitempty"` // 0 for one of the mount, which gets its number in the log
	// Bytes are those of the log's entry, but for its previous one.
	Bytes []byte `json:"event"`

	decoded *evidence.Event // of Bytes, shared; nil if they were read from storage
}

// decode returns the event, which is shared.
func (e *Event) decode() (*evidence.Event, error) {
	if e.decoded != nil {
		return e.decoded, nil
	}
	return evidence.Decode(e.Bytes)
}

// Config has the packages and the clock that a Ledger uses. Log's Wake is to call
// [Ledger.Drive].
type Config struct {
	Log    *evidencelog.Log
	People *people.Store
	Jobs   *jobs.Runner
	Now    func() time.Time
	Logger hclog.Logger
}

// Ledger brings events into the log of one mount. It is safe for concurrent use.
type Ledger struct {
	log    *evidencelog.Log
	people *people.Store
	jobs   *jobs.Runner
	now    func() time.Time
	logger hclog.Logger
}

// New returns a Ledger.
func New(c Config) *Ledger {
	return &Ledger{log: c.Log, people: c.People, jobs: c.Jobs, now: c.Now, logger: c.Logger}
}

// Drive lets the appender take what waits, in the background.
func (l *Ledger) Drive() {
	l.jobs.Run(jobs.Job{
		ID: "evidence/append", FailureMessage: "appending to the evidence log failed",
		Step: func(ctx context.Context) (done, progressed bool, err error) {
			if err := l.log.Work(ctx); err != nil {
				return false, false, err
			}
			if l.log.IndexDue() {
				l.buildIndex()
			}
			return true, true, nil
		},
	})
}

func (l *Ledger) buildIndex() {
	l.jobs.Run(jobs.Job{
		ID: "evidence/index", FailureMessage: "building the index of the evidence log failed",
		Step: func(ctx context.Context) (done, progressed bool, err error) {
			err = l.log.BuildIndex(ctx)
			return err == nil, true, err
		},
	})
}

// Head begins an event that is decided now, by the caller of the request or by the
// engine itself, with a reason, which may be empty.
func (l *Ledger) Head(ctx context.Context, reason string) (evidence.Head, error) {
	h := evidence.Head{Time: l.now(), Actor: evidence.System}
	r := requestOf(ctx)
	if r == nil {
		return h, nil
	}
	h.RequestID = r.id
	var err error
	if h.Actor, err = l.Actor(ctx, r.caller()); err == nil {
		h.Reason, err = l.people.Reason(ctx, reason)
	}
	return h, err
}

// Actor returns the random ID by which the log names a person.
func (l *Ledger) Actor(ctx context.Context, who actor.Actor) (string, error) {
	if who == actor.System || who == (actor.Actor{}) {
		return evidence.System, nil
	}
	return l.people.Actor(ctx, who)
}

// Keep stores who a person is of whom an earlier version stored the name with a record.
func (l *Ledger) Keep(ctx context.Context, who actor.Actor) error { return l.people.Keep(ctx, who) }

// Reason returns the hash by which the log names a reason.
func (l *Ledger) Reason(ctx context.Context, text string) (string, error) {
	return l.people.Reason(ctx, text)
}

// Encode makes an event as an entry carries it.
func Encode(h evidence.Head, d evidence.Detail) (Event, error) {
	carried := h.Seq
	if h.TenantID == "" {
		h.Seq = 1 // the log numbers it
	}
	decoded := &evidence.Event{Head: h, Detail: d}
	bytes, err := evidence.Encode(decoded)
	return Event{Seq: carried, Bytes: bytes, decoded: decoded}, err
}

// Logged returns where the last event of an incarnation is that a stored checkpoint has,
// as far as that is in memory.
func (l *Ledger) Logged(tenantID, incarnation string) (evidence.Position, bool) {
	return l.log.Logged(tenantID, incarnation)
}

// Knows reports whether the log has an event of an incarnation, or was told of it.
func (l *Ledger) Knows(tenantID, incarnation string, carried Event) bool {
	if at, found := l.Logged(tenantID, incarnation); found && at.Seq >= carried.Seq {
		return true
	}
	e, err := carried.decode()
	return err != nil || l.log.Waits(&e.Head)
}

// Tell has the events logged that an entry carries, which was put with success. Those
// that are numbered after known were decided with that Put, and last is where the record
// says that the event before them is, nil if it does not. A request that causes them
// waits for them.
func (l *Ledger) Tell(ctx context.Context, events []Event, known int64, last *evidence.Position) {
	r := requestOf(ctx)
	tickets := l.submit(events, known, last, r != nil)
	if r != nil {
		r.add(tickets)
	}
}

func (l *Ledger) submit(events []Event, known int64, last *evidence.Position, urgent bool) []*evidencelog.Ticket {
	var waiting []evidencelog.Pending
	for _, carried := range events {
		e, err := carried.decode()
		if err != nil {
			l.logger.Error("an event that a record carries cannot be read, and is not logged", "seq", carried.Seq, "error", err)
			continue
		}
		if at, found := l.Logged(e.TenantID, e.Incarnation); found && e.TenantID != "" && at.Seq >= e.Seq {
			continue
		}
		waiting = append(waiting, evidencelog.Pending{
			Event: *e, New: e.TenantID != "" && e.Seq > known, Last: last, Urgent: urgent,
		})
	}
	if len(waiting) == 0 {
		return nil
	}
	return l.log.Submit(waiting...)
}

// Await waits until the log has the events that an entry carries, which was put with
// success, or ctx ends. The caller holds no lock.
func (l *Ledger) Await(ctx context.Context, events []Event) error {
	for _, ticket := range l.submit(events, MaxSeq, nil, false) {
		select {
		case <-ticket.Done():
			if _, err := ticket.Result(); err != nil {
				l.logger.Error("an event is not logged", "tenant_id", ticket.Event.TenantID, "seq", ticket.Event.Seq, "error", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// MaxSeq is beyond the number of every event: none is new.
const MaxSeq = evidence.MaxInteger

// Reached reports whether the log has an incarnation's event of a number, and so all before
// it. It looks that up, and waits until the log is open.
func (l *Ledger) Reached(ctx context.Context, tenantID, incarnation string, seq int64) (bool, error) {
	return l.log.Has(ctx, &evidence.Head{TenantID: tenantID, Incarnation: incarnation, Seq: seq})
}

// Lacks reports whether the log lacks one of the events that an entry carries. It looks
// them up, and waits until the log is open.
func (l *Ledger) Lacks(ctx context.Context, events []Event) (bool, error) {
	for _, carried := range events {
		e, err := carried.decode()
		if err != nil {
			continue // it never gets there
		}
		has, err := l.log.Has(ctx, &e.Head)
		if err != nil || !has {
			return !has, err
		}
	}
	return false, nil
}

// NeedsPut reports whether an entry is to be put again as it was read: since the log lacks
// one of the events that it carries, or since an earlier version has stored it with the
// name of a person, who is kept first.
func (l *Ledger) NeedsPut(ctx context.Context, who actor.Actor, events []Event) (bool, error) {
	if err := l.Keep(ctx, who); err != nil {
		return false, err
	}
	lacks, err := l.Lacks(ctx, events)
	return lacks || who.Named(), err
}

// Size returns the number of the log's entries, Pending how many events wait for it.
func (l *Ledger) Size() int64 { return l.log.Size() }

// Pending returns how many events wait to be logged.
func (l *Ledger) Pending() int { return l.log.Waiting() }
