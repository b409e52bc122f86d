// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import "time"

// The picture's measures, in units of its own.
const (
	timelineWidth = 1000
	rowHeight     = 26
	// timelineRows bounds the versions that are drawn, the newest first. The table has all.
	timelineRows = 20
	leastWidth   = 4
	labelWidth   = 60
)

// timeline is the life of each version, drawn to scale.
type timeline struct {
	From, To time.Time
	Width    int
	Height   int
	Rows     []timelineRow
}

type timelineRow struct {
	Version  int64
	State    string
	Y, TextY int
	// Active is when new data was encrypted with the key, Kept when it was kept for
	// what it had encrypted before.
	ActiveX, ActiveWidth int
	KeptX, KeptWidth     int
}

// newTimeline returns nil where there is nothing to draw.
func newTimeline(versions []version, now time.Time) *timeline {
	newest := versions
	if len(newest) > timelineRows {
		newest = newest[len(newest)-timelineRows:]
	}
	tl := &timeline{To: now, Width: timelineWidth}
	for _, v := range newest {
		if v.ActivatedAt != nil && (tl.From.IsZero() || v.ActivatedAt.Before(tl.From)) {
			tl.From = *v.ActivatedAt
		}
	}
	if tl.From.IsZero() || !tl.From.Before(now) {
		return nil
	}
	for i := len(newest) - 1; i >= 0; i-- {
		v := &newest[i]
		if v.ActivatedAt == nil {
			continue
		}
		y := len(tl.Rows) * rowHeight
		row := timelineRow{Version: v.Version, State: v.State, Y: y + 4, TextY: y + rowHeight - 9}
		end := or(v.DeactivatedAt, or(v.DestroyedAt, now))
		row.ActiveX = tl.x(*v.ActivatedAt)
		row.ActiveWidth = max(leastWidth, tl.x(end)-row.ActiveX)
		if v.DeactivatedAt != nil {
			row.KeptX = row.ActiveX + row.ActiveWidth
			row.KeptWidth = max(0, tl.x(or(v.DestroyedAt, now))-row.KeptX)
		}
		tl.Rows = append(tl.Rows, row)
	}
	tl.Height = len(tl.Rows) * rowHeight
	return tl
}

// ViewWidth is the picture with the numbers of versions before it.
func (tl *timeline) ViewWidth() int { return tl.Width + labelWidth }

// KeptY is where the second bar of a row is.
func (r timelineRow) KeptY() int { return r.Y + 5 }

// x is where a time is drawn.
func (tl *timeline) x(t time.Time) int {
	share := float64(t.Sub(tl.From)) / float64(tl.To.Sub(tl.From))
	return int(max(0, min(1, share)) * timelineWidth)
}

func or(t *time.Time, other time.Time) time.Time {
	if t == nil {
		return other
	}
	return *t
}
