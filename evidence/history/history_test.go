// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package history_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/evidencetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/history"
)

const day = evidencetest.Day

// at is a day of the story.
func at(days int) time.Time { return evidencetest.Begin.Add(time.Duration(days) * day) }

// read puts the history of a log together.
func read(t *testing.T, log *evidencetest.Log) *history.History {
	t.Helper()
	h := history.New(false)
	for i, leaf := range log.Leaves {
		e, err := evidence.Decode(leaf)
		require.NoError(t, err)
		h.Add(int64(i), e)
	}
	return h
}

func TestHistoryOfATenant(t *testing.T) {
	tenants := read(t, evidencetest.GoodStory(t, 2)).Tenants()
	require.Len(t, tenants, 2)
	first, shredded := tenants[0], tenants[1]
	require.Equal(t, "active", first.State())
	require.Len(t, first.Versions, 5)
	require.Len(t, first.Rotations, 4)
	active, since := first.Active()
	require.EqualValues(t, 5, active.Number)
	require.Equal(t, at(320), since)
	require.Equal(t, "completed", first.Rotations[0].Status)
	require.Equal(t, 80*day, first.Rotations[1].Age)
	require.Equal(t, evidence.WhyRetention, first.Version(1).Destroyed[evidence.WhichPage].Why)
	require.Equal(t, "shredded", shredded.State())
	require.EqualValues(t, 5, shredded.Shredded.Versions)
	require.Len(t, shredded.Other, 1)
}

func TestContentIsJudged(t *testing.T) {
	type story = evidencetest.Story
	end := func(version, day int, change func(*evidence.RotationEnd)) evidence.RotationEnd {
		e := evidencetest.End(0, version, at(day))
		if change != nil {
			change(&e)
		}
		return e
	}
	for _, test := range []struct {
		name string
		tell func(s story)
		now  int
		code string // empty: everything holds
		says string
	}{
		{"nothing yet", func(story) {}, 10, "", ""},
		{"rotated in time", func(s story) { s.Rotate(0, 2, at(90)) }, 100, "", ""},
		{"jitter", func(s story) { s.Rotate(0, 2, at(91)) }, 100, "", ""},
		{"pages left", func(s story) {
			s.Tenant(0, at(80), &evidence.RotationStarted{Rotation: evidencetest.Rotation(0, 2)})
			s.Tenant(0, at(80), &evidence.RotationCompleted{
				RotationEnd: end(2, 80, func(e *evidence.RotationEnd) { e.PagesOnPreviousVersion = 2 }),
			})
		}, 81, history.CodePagesLeft, "left 2 pages on version 1"},
		{"late", func(s story) { s.Rotate(0, 2, at(100)) }, 101, history.CodeLate, "Version 1 of tenant " + evidencetest.ID(0) + " was active for 100 days, 10 days longer than its interval of 90 days."},
		{"never", func(story) {}, 95, history.CodeLate, "has been active for 95 days, 5 days longer"},
		{"not destroyed", func(s story) {
			s.Tenant(0, at(80), &evidence.RotationStarted{Rotation: evidencetest.Rotation(0, 2)})
			s.Tenant(0, at(80), &evidence.RotationCompleted{RotationEnd: end(2, 80, nil)})
		}, 89, history.CodeNotDestroyed, "no entry says that it was, or why not"},
		{"retention lasts", func(s story) {
			s.Tenant(0, at(80), &evidence.RotationStarted{Rotation: evidencetest.Rotation(0, 2)})
			s.Tenant(0, at(80), &evidence.RotationCompleted{RotationEnd: end(2, 80, nil)})
		}, 87, "", ""},
		{"destroyed early", func(s story) {
			s.Tenant(0, at(80), &evidence.RotationStarted{Rotation: evidencetest.Rotation(0, 2)})
			s.Tenant(0, at(80), &evidence.RotationCompleted{RotationEnd: end(2, 80, nil)})
			s.Destroy(0, 1, at(82), evidence.WhyRetention)
		}, 90, history.CodeEarly, "5 days before that ended"},
		{"destroyed early for room", func(s story) {
			s.Tenant(0, at(80), &evidence.RotationStarted{Rotation: evidencetest.Rotation(0, 2)})
			s.Tenant(0, at(80), &evidence.RotationCompleted{RotationEnd: end(2, 80, nil)})
			s.Destroy(0, 1, at(82), evidence.WhyRoom)
		}, 90, "", ""},
		{"active key destroyed", func(s story) { s.Destroy(0, 1, at(3), evidence.WhyAsked) }, 4, history.CodeActive, "while it is the active one"},
		{"pages lost without force", func(s story) {
			s.Rotate(0, 2, at(80))
			s.Tenant(0, at(81), &evidence.KeyDestroyed{
				Version: 1, KeyID: evidencetest.KeyID(0, 1), Which: evidence.WhichPage, Why: evidence.WhyAsked, PagesLeft: 4,
			})
		}, 90, history.CodePagesLeft, "that 4 pages are on, and nobody forced it"},
		{"pages lost by force", func(s story) {
			s.Rotate(0, 2, at(80))
			s.Tenant(0, at(81), &evidence.KeyDestroyed{
				Version: 1, KeyID: evidencetest.KeyID(0, 1), Which: evidence.WhichPage, Why: evidence.WhyForced, PagesLeft: 4,
			})
		}, 90, "", ""},
		{"two rotations at once", func(s story) {
			s.Tenant(0, at(80), &evidence.RotationStarted{Rotation: evidencetest.Rotation(0, 2)})
			s.Tenant(0, at(81), &evidence.RotationStarted{Rotation: evidencetest.Rotation(0, 3)})
		}, 82, history.CodeMissing, "no entry says how the one of entry 2 ended"},
		{"a version left out", func(s story) {
			r := evidencetest.Rotation(0, 3)
			r.PreviousVersion = 1
			s.Tenant(0, at(80), &evidence.RotationStarted{Rotation: r})
		}, 82, history.CodeMissing, "goes to version 3 in entry 2; no entry is about the versions from 2"},
		{"a rotation left out", func(s story) { s.Rotate(0, 3, at(80)) }, 82, history.CodeMissing, "from version 2; the entries before leave version 1 active"},
		{"an end without a start", func(s story) {
			s.Tenant(0, at(80), &evidence.RotationCompleted{RotationEnd: end(2, 80, nil)})
		}, 82, history.CodeMissing, "no entry says that it began"},
		{"rolled back", func(s story) {
			s.Tenant(0, at(80), &evidence.RotationStarted{Rotation: evidencetest.Rotation(0, 2)})
			s.Tenant(0, at(80), &evidence.RotationRolledBack{RotationEnd: end(2, 80, nil)})
			s.Destroy(0, 2, at(80), evidence.WhyRollback)
			r := evidencetest.Rotation(0, 3)
			r.PreviousVersion, r.PreviousKeyID = 1, evidencetest.KeyID(0, 1)
			s.Tenant(0, at(85), &evidence.RotationStarted{Rotation: r})
		}, 86, "", ""},
		{"failed, tried again", func(s story) {
			s.Tenant(0, at(80), &evidence.RotationStarted{Rotation: evidencetest.Rotation(0, 2)})
			s.Tenant(0, at(80), &evidence.RotationFailed{
				RotationEnd: end(2, 80, func(e *evidence.RotationEnd) { e.PagesOnPreviousVersion, e.Failures = 1, 1 }),
			})
			s.Tenant(0, at(81), &evidence.RotationStarted{Rotation: evidencetest.Rotation(0, 2)})
			s.Tenant(0, at(81), &evidence.RotationCompleted{RotationEnd: end(2, 81, nil)})
			s.Destroy(0, 1, at(88), evidence.WhyRetention)
		}, 120, "", ""},
		{"failed, and the key is kept", func(s story) {
			s.Tenant(0, at(80), &evidence.RotationStarted{Rotation: evidencetest.Rotation(0, 2)})
			s.Tenant(0, at(80), &evidence.RotationFailed{
				RotationEnd: end(2, 80, func(e *evidence.RotationEnd) { e.PagesOnPreviousVersion, e.Failures = 1, 1 }),
			})
		}, 120, "", ""},
		{"imported", func(s story) {
			s.Tenant(0, at(79), &evidence.KeyImported{
				Version: 2, KeyID: evidencetest.KeyID(0, 2), KeyType: "aes256-gcm", Fingerprint: "ab",
			})
			s.Rotate(0, 2, at(80))
		}, 90, "", ""},
		{"shredded, a key kept", func(s story) {
			s.Rotate(0, 2, at(80))
			s.Tenant(0, at(85), &evidence.TenantShredded{Versions: 2})
		}, 90, history.CodeNotDestroyed, "no entry says that its version 2 was destroyed"},
		{"deleting", func(s story) { s.Tenant(0, at(80), &evidence.TenantDeletionScheduled{DeleteAfter: at(300)}) }, 200, "", ""},
		{"restored", func(s story) {
			s.Tenant(0, at(80), &evidence.TenantDeletionScheduled{DeleteAfter: at(300)})
			s.Tenant(0, at(81), &evidence.TenantRestored{})
		}, 200, history.CodeLate, "has been active"},
		{"another interval", func(s story) {
			s.Tenant(0, at(80), &evidence.SettingsChanged{Path: "tenant", Change: evidence.Change{
				New: evidence.Values{"rotation_interval": "31536000"},
			}})
		}, 200, "", ""},
		{"a gap", func(s story) {
			s.Log.Add(s.T, evidence.Event{
				Head: evidence.Head{
					Seq: 4, Time: at(3), TenantID: evidencetest.ID(0), Incarnation: evidencetest.ID(0),
				},
				Detail: &evidence.TenantRestored{},
			})
		}, 5, history.CodeGap, "Of tenant " + evidencetest.ID(0) + " the events 2 to 3 are missing before entry 2."},
		{"a repeated event", func(s story) { s.Log.AddLeaf(s.T, s.Log.Leaves[1]) }, 5, history.CodeRepeated, "Entry 2 repeats an event"},
		{"a gap of the mount", func(s story) {
			s.Log.Add(s.T, evidence.Event{Head: evidence.Head{Seq: 3, Time: at(3)}, Detail: &evidence.SettingsChanged{Path: "config"}})
		}, 5, history.CodeGap, "Of the mount event 2 is missing before entry 2."},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := evidencetest.Story{T: t, Log: evidencetest.NewLog(1)}
			s.Start()
			s.Create(0, at(0))
			test.tell(s)
			problems := read(t, s.Log).Finish(at(test.now))
			if test.code == "" {
				require.Empty(t, problems)
				return
			}
			var said []string
			for _, p := range problems {
				if p.Code == test.code {
					said = append(said, p.Text)
				}
			}
			require.Contains(t, strings.Join(said, "\n"), test.says, "%+v", problems)
		})
	}
}
