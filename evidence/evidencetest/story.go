// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencetest

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// Day is the unit of stories.
const Day = 24 * time.Hour

// Begin is when stories begin.
var Begin = time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC)

// ID names the nth tenant. Its incarnation has the same name.
func ID(n int) string {
	var id uuid.UUID
	id[0], id[6], id[8] = 0xaa, 0x40, 0x80
	binary.BigEndian.PutUint32(id[12:], uint32(n)) //nolint:gosec // small
	return id.String()
}

// Story adds what happens to tenants to a log.
type Story struct {
	T   testing.TB
	Log *Log
}

// Start begins a log.
func (s Story) Start() {
	s.Mount(Begin, &evidence.LogStarted{
		PluginVersion: "v1.0.0", PluginSHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		VaultVersion: "1.21.1", OrgID: MountUUID,
	})
}

// Mount logs an event of the mount.
func (s Story) Mount(at time.Time, detail evidence.Detail) {
	s.Log.Add(s.T, evidence.Event{Head: evidence.Head{Time: at}, Detail: detail})
}

// Tenant logs an event of a tenant.
func (s Story) Tenant(n int, at time.Time, detail evidence.Detail) {
	s.T.Helper()
	s.Log.Add(s.T, evidence.Event{
		Head: evidence.Head{Time: at, TenantID: ID(n), Incarnation: ID(n), Actor: "person-1", Trigger: "manual"}, Detail: detail,
	})
}

// KeyID names a version's key.
func KeyID(tenant, version int) string { return fmt.Sprintf("dek-%s-%d", ID(tenant), version) }

// Create logs the creation of a tenant, with an interval of 90 days.
func (s Story) Create(n int, at time.Time) {
	s.Tenant(n, at, &evidence.TenantCreated{
		Version: 1, KeyID: KeyID(n, 1), KeyType: "xaes256-gcm", RotationInterval: int64(90 * Day / time.Second),
	})
}

// Rotation describes a rotation to a version.
func Rotation(n, version int) evidence.Rotation {
	return evidence.Rotation{
		RotationID: fmt.Sprintf("rot-%d-%d", n, version), PreviousVersion: int64(version - 1), NewVersion: int64(version),
		PreviousKeyID: KeyID(n, version-1), NewKeyID: KeyID(n, version),
		PreviousKeyType: "xaes256-gcm", NewKeyType: "xaes256-gcm", RotationInterval: int64(90 * Day / time.Second),
	}
}

// End describes the end of a rotation to a version.
func End(n, version int, at time.Time) evidence.RotationEnd {
	return evidence.RotationEnd{
		Rotation:    Rotation(n, version),
		ItemsBefore: evidence.Counts{"credentials": 25, "api_keys": 10, "secrets": 50},
		ItemsAfter:  evidence.Counts{"credentials": 25, "api_keys": 10, "secrets": 50},
		PagesBefore: 3, PagesAfter: 3, ScannedAt: at, RetiredKeyRetention: int64(7 * Day / time.Second),
	}
}

// Rotate logs a rotation to a version that takes a minute, and the destruction of the
// page key before it.
func (s Story) Rotate(n, version int, at time.Time) {
	end := at.Add(time.Minute)
	s.Tenant(n, at, &evidence.RotationStarted{Rotation: Rotation(n, version)})
	s.Tenant(n, end, &evidence.RotationCompleted{RotationEnd: End(n, version, end)})
	s.Destroy(n, version-1, end.Add(7*Day), evidence.WhyRetention)
}

// Destroy logs the destruction of a page key.
func (s Story) Destroy(n, version int, at time.Time, why string) {
	s.Tenant(n, at, &evidence.KeyDestroyed{
		Version: int64(version), KeyID: KeyID(n, version), Which: evidence.WhichPage, Why: why, PagesScanned: 3,
	})
}

// Shred logs the end of a tenant whose versions from first to last are there.
func (s Story) Shred(n, first, last int, at time.Time) {
	s.Tenant(n, at.Add(-7*Day), &evidence.TenantDeletionScheduled{DeleteAfter: at})
	for version := first; version <= last; version++ {
		s.Destroy(n, version, at, evidence.WhyShredding)
	}
	s.Tenant(n, at, &evidence.KeyDestroyed{
		KeyID: "place-" + ID(n), Which: evidence.WhichPlacement, Why: evidence.WhyShredding,
	})
	s.Tenant(n, at, &evidence.TenantShredded{
		Items: evidence.Counts{"credentials": 25, "api_keys": 10, "secrets": 50}, Versions: int64(last),
	})
}

// GoodStory is a year of tenants: rotated four times, each old key destroyed, one tenant
// shredded, a new signing key in between.
func GoodStory(t testing.TB, tenants int) *Log {
	t.Helper()
	s := Story{t, NewLog(1)}
	s.Start()
	for n := range tenants {
		s.Create(n, Begin.Add(time.Duration(n)*time.Minute))
	}
	for version := 2; version <= 5; version++ {
		for n := range tenants {
			s.Rotate(n, version, Begin.Add(time.Duration(version-1)*80*Day+time.Duration(n)*time.Minute))
		}
		if version == 3 {
			s.Log.RotateKey(t, evidence.Event{Head: evidence.Head{Time: Begin.Add(170 * Day)}}, "second")
		}
	}
	if tenants > 1 {
		s.Shred(tenants-1, 5, 5, Begin.Add(340*Day))
	}
	return s.Log
}

// GoodUntil is a time at which nothing in GoodStory is overdue.
var GoodUntil = Begin.Add(380 * Day)
