// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package history

import (
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// tolerance is by how much a rotation may start after its interval: the engine spreads
// scheduled rotations over a day, or a tenth of a short interval.
func tolerance(interval time.Duration) time.Duration {
	return min(24*time.Hour, interval/10) + time.Hour
}

// started takes the start of a rotation, and looks for what must have been before it.
func (h *History) started(t *Tenant, index int64, e *evidence.Event, d *evidence.RotationStarted) {
	if open := t.unfinished(); open != nil {
		h.report(CodeMissing, index, t.ID,
			"Entry %d begins a rotation of tenant %s, and no entry says how the one of entry %d ended.",
			index, t.ID, open.Index)
	}
	if again := t.retried(d.RotationID); again != nil {
		again.Status = "in_progress"
		return
	}
	known := t.active != nil
	if known && t.active.Number != d.PreviousVersion {
		h.report(CodeMissing, index, t.ID, "Entry %d rotates tenant %s from version %d; the entries before leave version %d active.",
			index, t.ID, d.PreviousVersion, t.active.Number)
	}
	if known && t.Version(d.NewVersion) == nil && d.NewVersion != t.greatest+1 {
		h.report(CodeMissing, index, t.ID, "Tenant %s goes to version %d in entry %d; no entry is about the versions from %d.",
			t.ID, d.NewVersion, index, t.greatest+1)
	}
	r := &Rotation{
		Rotation: d.Rotation, Index: index, StartedAt: e.Time, Actor: e.Actor, Trigger: e.Trigger,
		Status: "in_progress", EndIndex: -1,
	}
	if t.Version(d.PreviousVersion) == nil {
		t.add(d.PreviousVersion, d.PreviousKeyID, d.PreviousKeyType) // the log began after it
	}
	if known && t.active.Number == d.PreviousVersion {
		r.Age = e.Time.Sub(t.activeSince)
		if t.Interval > 0 && r.Age > t.Interval+tolerance(t.Interval) {
			r.Late = r.Age - t.Interval
			h.report(CodeLate, index, t.ID, "Version %d of tenant %s was active for %s, %s longer than its interval of %s.",
				d.PreviousVersion, t.ID, span(r.Age), span(r.Late), span(t.Interval))
		}
	}
	t.Rotations = append(t.Rotations, r)
	t.activate(t.add(d.NewVersion, d.NewKeyID, d.NewKeyType), e.Time)
	t.Interval = seconds(d.RotationInterval)
}

// retried returns the latest rotation if it failed and is the one that begins again.
func (t *Tenant) retried(rotationID string) *Rotation {
	if n := len(t.Rotations); n > 0 && t.Rotations[n-1].Status == "failed" && t.Rotations[n-1].RotationID == rotationID {
		return t.Rotations[n-1]
	}
	return nil
}

func (t *Tenant) unfinished() *Rotation {
	if n := len(t.Rotations); n > 0 && t.Rotations[n-1].Status == "in_progress" {
		return t.Rotations[n-1]
	}
	return nil
}

// begun returns the rotation that an entry ends, made up where its start is missing.
func (h *History) begun(t *Tenant, index int64, e *evidence.Event, end *evidence.RotationEnd) *Rotation {
	for i := len(t.Rotations) - 1; i >= 0; i-- {
		if r := t.Rotations[i]; r.RotationID == end.RotationID {
			// A failed rotation that is tried again ends once more.
			if r.Status != "in_progress" && r.Status != "failed" {
				h.report(CodeOrder, index, t.ID, "Entry %d ends a rotation of tenant %s that entry %d ended.",
					index, t.ID, r.EndIndex)
			}
			return r
		}
	}
	if !h.partial || t.Entries > 1 {
		h.report(CodeMissing, index, t.ID, "Entry %d ends a rotation of tenant %s, and no entry says that it began.",
			index, t.ID)
	}
	r := &Rotation{Rotation: end.Rotation, Index: -1, StartedAt: e.Time, EndIndex: -1}
	t.Rotations = append(t.Rotations, r)
	for _, v := range []struct {
		number  int64
		id, typ string
	}{
		{end.PreviousVersion, end.PreviousKeyID, end.PreviousKeyType}, {end.NewVersion, end.NewKeyID, end.NewKeyType},
	} {
		if t.Version(v.number) == nil {
			t.add(v.number, v.id, v.typ)
		}
	}
	t.activate(t.Version(end.NewVersion), e.Time)
	return r
}

// ended takes the end of a rotation.
func (h *History) ended(t *Tenant, index int64, e *evidence.Event, end *evidence.RotationEnd, status string) {
	r := h.begun(t, index, e, end)
	r.Status, r.EndIndex, r.EndedAt, r.End = status, index, &e.Time, end
	from, to := t.Version(end.PreviousVersion), t.Version(end.NewVersion)
	if from == nil || to == nil {
		h.report(CodeMissing, index, t.ID, "Entry %d ends a rotation of tenant %s between other versions than it began with.",
			index, t.ID)
		return
	}
	retention := e.Time.Add(seconds(end.RetiredKeyRetention))
	switch status {
	case "completed":
		if end.PagesOnPreviousVersion != 0 || end.Failures != 0 {
			h.report(CodePagesLeft, index, t.ID,
				"The rotation of tenant %s that entry %d calls completed left %d pages on version %d, and %d failures.",
				t.ID, index, end.PagesOnPreviousVersion, from.Number, end.Failures)
		}
		from.ReplacedAt, from.DestroyBy, from.kept = &e.Time, &retention, false
		for _, older := range t.Versions { // what a failed rotation left is on the new version, too
			if older.kept && older.Number < to.Number {
				older.ReplacedAt, older.DestroyBy, older.kept = &e.Time, &retention, false
			}
		}
	case "rolled_back":
		since := e.Time
		if !from.ActivatedAt.IsZero() {
			since = from.ActivatedAt // its age goes on
		}
		t.activate(from, since)
		to.ReplacedAt, to.DestroyBy = &e.Time, &e.Time
	case "failed":
		from.kept = true
	}
}
