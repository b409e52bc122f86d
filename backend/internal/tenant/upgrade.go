// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
)

// former has the fields that an earlier version kept for a request. RotateAfter was the
// time of the request as well, if there was one.
type former struct {
	RotateReason  string      `json:"rotate_reason,omitempty"`
	RotateRequest string      `json:"rotate_request,omitempty"`
	RotateBy      actor.Actor `json:"rotate_by,omitzero"`
	RotatePaused  bool        `json:"rotate_paused,omitempty"`
}

// noCampaign is what Campaign is while a record is read that has no such field: an
// earlier version has stored it.
const noCampaign = -1

// upgrade turns what an earlier version stored into what is kept now.
func (t *Record) upgrade() {
	for i := range t.Keys.Versions {
		if v := &t.Keys.Versions[i]; v.IdempotencyKey != "" {
			v.Request, v.IdempotencyKey = actor.RequestDigest(v.IdempotencyKey), ""
		}
	}
	was := t.former
	t.former = former{}
	if was.RotateRequest != "" || was.RotateReason != "" {
		t.Request = &Request{
			FirstVersion: t.Keys.Next, IncludePaused: was.RotatePaused,
			At: t.RotateAfter, By: was.RotateBy, Reason: was.RotateReason,
		}
		if was.RotateRequest != "" {
			t.Request.Requests = []string{actor.RequestDigest(was.RotateRequest)}
		}
		t.RotateAfter = time.Time{}
	}
	if t.Campaign == noCampaign {
		t.Campaign = t.formerCampaign()
	}
}

// formerCampaign returns the number of the latest campaign that t's key meets, and sets that
// of its latest rotation: an earlier version compared the time when the key took over. A key
// that a rotation is still to bring in, or has failed to, does not count any more.
func (t *Record) formerCampaign() int64 {
	version := 0
	switch r, last := t.Rotation, t.Last; {
	case r != nil:
		r.Campaign = r.StartedAt.UnixMilli()
		version = r.From
	case last != nil && last.Phase == Failed:
		last.Campaign = last.StartedAt.UnixMilli()
		version = last.From
	default:
		version = t.Keys.ActiveNumber()
	}
	if v := t.Keys.Find(version); v != nil {
		return v.ActivatedAt.UnixMilli()
	}
	return 0
}
