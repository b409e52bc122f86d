// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package evidencetest makes events and logs for tests.
package evidencetest

import (
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// Names in the events of this package.
const (
	TenantID    = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	Incarnation = "0b8e7a0c-94cf-4f6c-8f0e-0d8e8e9b2a11"
	MountUUID   = "6f1d2c3b-1111-4222-8333-444455556666"
)

// Head returns what every predicate has, of a tenant.
func Head() evidence.Head {
	return evidence.Head{
		EventID: evidence.EventID("test"), Seq: 1, Time: time.Date(2026, 3, 1, 12, 0, 0, 5000, time.UTC),
		TenantID: TenantID, Incarnation: Incarnation,
		Actor: "person-1", RequestID: "1f0e", Trigger: "manual", Reason: "ab",
	}
}

// EveryType returns one event of every type.
func EveryType() []*evidence.Event {
	at := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	previous := int64(7)
	rotation := evidence.Rotation{
		RotationID: "rot-1", PreviousVersion: 1, NewVersion: 2, PreviousKeyID: "dek-1", NewKeyID: "dek-2",
		PreviousKeyType: "xaes256-gcm", NewKeyType: "aes256-gcm", RotationInterval: 31536000,
	}
	end := evidence.RotationEnd{
		Rotation: rotation, ItemsBefore: evidence.Counts{"secrets": 3, "api_keys": 0},
		ItemsAfter: evidence.Counts{"secrets": 4}, PagesBefore: 2, PagesAfter: 2,
		ScannedAt: at, RetiredKeyRetention: 604800,
	}
	change := evidence.Change{
		Old: evidence.Values{"interval": "90_DAYS"}, New: evidence.Values{"interval": "<&>\u2028é😀"},
	}
	var events []*evidence.Event
	for i, detail := range []evidence.Detail{
		&evidence.LogStarted{
			PluginVersion: "v1.0.0", PluginSHA256: "00ff", VaultVersion: "1.21.1", OrgID: "org",
			PreviousLog: &evidence.Tree{Origin: evidence.Origin(MountUUID, 1), Size: 3, RootHash: "AAAA"},
		},
		&evidence.TenantCreated{Version: 1, KeyID: "dek-1", KeyType: "xaes256-gcm", RotationInterval: 31536000},
		&evidence.TenantDeletionScheduled{DeleteAfter: at},
		&evidence.TenantRestored{},
		&evidence.TenantShredded{Items: evidence.Counts{"secrets": 3}, Versions: 2},
		&evidence.RotationStarted{Rotation: rotation},
		&evidence.RotationCompleted{RotationEnd: end},
		&evidence.RotationRolledBack{RotationEnd: end},
		&evidence.RotationFailed{RotationEnd: end},
		&evidence.KeyImported{Version: 2, KeyID: "dek-2", KeyType: "aes256-gcm", Fingerprint: "ab12"},
		&evidence.KeyDestroyed{
			Version: 1, KeyID: "dek-1", Which: evidence.WhichPage, Why: evidence.WhyRetention, PagesScanned: 9,
		},
		&evidence.KEKRotated{PreviousKeyID: "kek-1", NewKeyID: "kek-2", NewProvider: "hsm"},
		&evidence.ProviderChanged{Provider: "hsm", Change: change},
		&evidence.ProviderDenied{Provider: "hsm", KeyID: "kek-2"},
		&evidence.HolderChanged{Holder: "orders", Change: change},
		&evidence.MinimumChanged{Old: 1, New: 2},
		&evidence.SettingsChanged{Path: "config", Change: change},
		&evidence.LogKeyRotated{Old: "old", New: "new"},
	} {
		head := Head()
		head.Seq = int64(i + 1)
		head.Previous = &previous
		events = append(events, &evidence.Event{Head: head, Detail: detail})
	}
	return events
}
