// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package history

import (
	"fmt"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// Add takes the next entry of the log, in order.
func (h *History) Add(index int64, e *evidence.Event) {
	if _, twice := h.ids[e.EventID]; twice {
		h.report(CodeRepeated, index, e.TenantID, "Entry %d repeats an event that was logged before.", index)
		return
	}
	h.ids[e.EventID] = struct{}{}
	if e.TenantID == "" {
		h.follow(index, e, &h.mount.seq, &h.mount.last, "the mount")
		return
	}
	s := scope{e.TenantID, e.Incarnation}
	t := h.tenants[s]
	if t == nil {
		t = &Tenant{ID: e.TenantID, Incarnation: e.Incarnation, First: index}
		h.tenants[s] = t
	}
	t.Entries++
	h.follow(index, e, &t.seq, &t.last, "tenant "+t.ID)
	h.apply(t, index, e)
}

// AddUnknown takes an entry whose type is not known.
func (h *History) AddUnknown(index int64) {
	h.report(CodeUnknown, index, "", "Entry %d is of a type that this program does not know.", index)
}

// AddMalformed takes an entry that is no event.
func (h *History) AddMalformed(index int64, err error) {
	h.report(CodeMalformed, index, "", "Entry %d is no event of this engine: %v.", index, err)
}

// follow holds an event to its sequence.
func (h *History) follow(index int64, e *evidence.Event, seq, last *int64, whose string) {
	first := *seq == 0
	switch {
	case first && h.partial && e.Previous == nil:
		// The sequence began in an earlier log.
	case e.Seq > *seq+1:
		missing := fmt.Sprintf("the events %d to %d are", *seq+1, e.Seq-1)
		if e.Seq == *seq+2 {
			missing = fmt.Sprintf("event %d is", *seq+1)
		}
		h.report(CodeGap, index, e.TenantID, "Of %s %s missing before entry %d.", whose, missing, index)
	case e.Seq <= *seq:
		h.report(CodeOrder, index, e.TenantID, "Entry %d is event %d of %s, after event %d.", index, e.Seq, whose, *seq)
	}
	switch {
	case first && e.Previous != nil:
		h.report(CodeOrder, index, e.TenantID, "Entry %d names entry %d as the one before it of %s, which is none.",
			index, *e.Previous, whose)
	case !first && (e.Previous == nil || *e.Previous != *last):
		h.report(CodeOrder, index, e.TenantID, "Entry %d does not name entry %d, the one before it of %s.",
			index, *last, whose)
	}
	*seq, *last = max(*seq, e.Seq), index
}

func (h *History) apply(t *Tenant, index int64, e *evidence.Event) {
	switch d := e.Detail.(type) {
	case *evidence.TenantCreated:
		t.CreatedAt = e.Time
		v := t.add(d.Version, d.KeyID, d.KeyType)
		t.activate(v, e.Time)
		t.Interval = seconds(d.RotationInterval)
	case *evidence.TenantDeletionScheduled:
		t.DeleteAfter = &d.DeleteAfter
	case *evidence.TenantRestored:
		t.DeleteAfter = nil
	case *evidence.TenantShredded:
		t.Shredded = &Shredding{TenantShredded: *d, Index: index, At: e.Time, Actor: e.Actor}
	case *evidence.KeyImported:
		v := t.add(d.Version, d.KeyID, d.KeyType)
		v.Imported, v.Fingerprint = true, d.Fingerprint
	case *evidence.KeyDestroyed:
		h.destroyed(t, index, e, d)
	case *evidence.RotationStarted:
		h.started(t, index, e, d)
	case *evidence.RotationCompleted:
		h.ended(t, index, e, &d.RotationEnd, "completed")
	case *evidence.RotationRolledBack:
		h.ended(t, index, e, &d.RotationEnd, "rolled_back")
	case *evidence.RotationFailed:
		h.ended(t, index, e, &d.RotationEnd, "failed")
	case *evidence.SettingsChanged:
		if interval, err := time.ParseDuration(d.New["rotation_interval"] + "s"); err == nil {
			t.Interval = interval
		}
	}
}

func seconds(n int64) time.Duration {
	return time.Duration(min(n, 1<<33)) * time.Second
}

func (t *Tenant) add(number int64, keyID, keyType string) *Version {
	v := t.Version(number)
	if v == nil {
		v = &Version{Number: number, Destroyed: map[string]*Destruction{}}
		t.Versions = append(t.Versions, v)
	}
	v.KeyID, v.KeyType = keyID, keyType
	t.greatest = max(t.greatest, number)
	return v
}

func (t *Tenant) activate(v *Version, at time.Time) {
	v.ActivatedAt, v.ReplacedAt, v.DestroyBy = at, nil, nil
	t.active, t.activeSince = v, at
}
