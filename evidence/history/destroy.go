// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package history

import (
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// slack is how long after its retention a key may still be there.
const slack = 24 * time.Hour

// destroyed takes the end of a key.
func (h *History) destroyed(t *Tenant, index int64, e *evidence.Event, d *evidence.KeyDestroyed) {
	end := &Destruction{
		Index: index, At: e.Time, Which: d.Which, Why: d.Why, Actor: e.Actor, KeyID: d.KeyID,
		PagesScanned: d.PagesScanned, PagesLeft: d.PagesLeft,
	}
	if d.PagesLeft > 0 && d.Why != evidence.WhyForced {
		h.report(CodePagesLeft, index, t.ID, "Entry %d destroys a key of tenant %s that %d pages are on, and nobody forced it.",
			index, t.ID, d.PagesLeft)
	}
	if d.Version == 0 {
		t.Other = append(t.Other, end)
		return
	}
	v := t.Version(d.Version)
	if v == nil {
		if !h.partial {
			h.report(CodeMissing, index, t.ID, "Entry %d destroys version %d of tenant %s, and no entry says where it came from.",
				index, d.Version, t.ID)
		}
		v = t.add(d.Version, d.KeyID, "")
	}
	if v.KeyID != d.KeyID {
		h.report(CodeMissing, index, t.ID, "Entry %d destroys another key than the one of version %d of tenant %s.",
			index, d.Version, t.ID)
	}
	v.Destroyed[d.Which] = end
	if d.Why == evidence.WhyShredding {
		return
	}
	if v == t.active && t.unfinished() == nil {
		h.report(CodeActive, index, t.ID, "Entry %d destroys version %d of tenant %s while it is the active one.",
			index, d.Version, t.ID)
	}
	if d.Which == evidence.WhichPage && d.Why == evidence.WhyRetention && v.DestroyBy != nil && e.Time.Before(*v.DestroyBy) {
		h.report(CodeEarly, index, t.ID, "Entry %d destroys version %d of tenant %s for its retention, %s before that ended.",
			index, d.Version, t.ID, span(v.DestroyBy.Sub(e.Time)))
	}
}

// Finish returns all problems, with those of what had not happened yet at a time: keys
// that should have been destroyed, and tenants that should have been rotated.
func (h *History) Finish(now time.Time) []Problem {
	for _, t := range h.Tenants() {
		if t.State() == "active" {
			h.finishTenant(t, now)
		} else if t.Shredded != nil {
			h.finishShredded(t)
		}
	}
	return h.problems
}

func (h *History) finishTenant(t *Tenant, now time.Time) {
	for _, v := range t.Versions {
		if v.DestroyBy != nil && v.Destroyed[evidence.WhichPage] == nil && now.Sub(*v.DestroyBy) > slack {
			h.report(CodeNotDestroyed, -1, t.ID,
				"Version %d of tenant %s was replaced at %s and due to be destroyed at %s; no entry says that it was, or why not.",
				v.Number, t.ID, stamp(*v.ReplacedAt), stamp(*v.DestroyBy))
		}
	}
	if t.active == nil || t.unfinished() != nil || t.Interval == 0 {
		return
	}
	if age := now.Sub(t.activeSince); age > t.Interval+tolerance(t.Interval) {
		h.report(CodeLate, -1, t.ID, "Version %d of tenant %s has been active for %s, %s longer than its interval of %s.",
			t.active.Number, t.ID, span(age), span(age-t.Interval), span(t.Interval))
	}
}

// finishShredded looks for keys of a shredded tenant that no entry destroys.
func (h *History) finishShredded(t *Tenant) {
	for _, v := range t.Versions {
		if v.Destroyed[evidence.WhichPage] == nil {
			h.report(CodeNotDestroyed, t.Shredded.Index, t.ID,
				"Tenant %s was shredded in entry %d; no entry says that its version %d was destroyed.",
				t.ID, t.Shredded.Index, v.Number)
		}
	}
}
