// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence

import (
	"encoding/json"
	"time"
)

// Types of events.
const (
	TypeLogStarted              = "log-started"
	TypeTenantCreated           = "tenant-created"
	TypeTenantDeletionScheduled = "tenant-deletion-scheduled"
	TypeTenantRestored          = "tenant-restored"
	TypeTenantShredded          = "tenant-shredded"
	TypeRotationStarted         = "rotation-started"
	TypeRotationCompleted       = "rotation-completed"
	TypeRotationRolledBack      = "rotation-rolled-back"
	TypeRotationFailed          = "rotation-failed"
	TypeKeyImported             = "key-imported"
	TypeKeyDestroyed            = "key-destroyed"
	TypeKEKRotated              = "kek-rotated"
	TypeProviderChanged         = "provider-changed"
	TypeProviderDenied          = "provider-denied"
	TypeHolderChanged           = "holder-changed"
	TypeMinimumChanged          = "minimum-changed"
	TypeSettingsChanged         = "settings-changed"
	TypeEvidenceKeyRotated      = "evidence-key-rotated"
)

// Which key was destroyed.
const (
	WhichPage      = "page"
	WhichExternal  = "external"
	WhichPlacement = "placement"
	WhichKEK       = "kek"
)

// Why a key was destroyed.
const (
	WhyRotation  = "rotation"  // at the end of its rotation, without retention
	WhyRetention = "retention" // its retention had passed
	WhyRoom      = "room"      // the tenant's record was full
	WhyRollback  = "rollback"  // the rotation to it was rolled back
	WhyAsked     = "asked"
	WhyForced    = "forced" // asked for although something depended on it
	WhyHolders   = "holders"
	WhyShredding = "shredding"
)

// LogStarted begins a log, and is logged again after a start with another binary.
type LogStarted struct {
	PluginVersion string `json:"plugin_version"`
	PluginSHA256  string `json:"plugin_sha256"`
	VaultVersion  string `json:"vault_version"`
	OrgID         string `json:"org_id"`
	// PreviousLog is the log that this one goes on after, if that could not be.
	PreviousLog *Tree `json:"previous_log,omitempty"`
}

// A Tree names a log and what it held.
type Tree struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	// RootHash is in base64.
	RootHash string `json:"root_hash"`
}

// TenantCreated is the beginning of an incarnation, with its first key.
type TenantCreated struct {
	Version int64  `json:"version"`
	KeyID   string `json:"key_id"`
	KeyType string `json:"key_type"`
	// RotationInterval is in force at this time, in seconds.
	RotationInterval int64 `json:"rotation_interval"`
}

// TenantDeletionScheduled says when a tenant is to be shredded.
type TenantDeletionScheduled struct {
	DeleteAfter time.Time `json:"delete_after"`
}

// TenantRestored ends a scheduled deletion.
type TenantRestored struct{}

// TenantShredded is what a certificate of erasure needs.
type TenantShredded struct {
	// Items counts by kind.
	Items Counts `json:"items"`
	// Versions is how many keys the incarnation ever had.
	Versions int64 `json:"versions"`
}

// Rotation is what every event of a rotation names.
type Rotation struct {
	RotationID      string `json:"rotation_id"`
	PreviousVersion int64  `json:"previous_version"`
	NewVersion      int64  `json:"new_version"`
	PreviousKeyID   string `json:"previous_key_id"`
	NewKeyID        string `json:"new_key_id"`
	PreviousKeyType string `json:"previous_key_type"`
	NewKeyType      string `json:"new_key_type"`
	// RotationInterval is in force at this time, in seconds.
	RotationInterval int64 `json:"rotation_interval"`
}

// RotationEnd is what the end of a rotation adds.
type RotationEnd struct {
	Rotation
	// ItemsBefore and ItemsAfter count by kind.
	ItemsBefore Counts `json:"items_before"`
	ItemsAfter  Counts `json:"items_after"`
	PagesBefore int64  `json:"pages_before"`
	PagesAfter  int64  `json:"pages_after"`
	// PagesLost counts pages whose key had been given up by force before.
	PagesLost int64 `json:"pages_lost"`
	// PagesOnPreviousVersion is what was found on the version that was left, at
	// ScannedAt: 0 when completed.
	PagesOnPreviousVersion int64     `json:"pages_on_previous_version"`
	ScannedAt              time.Time `json:"scanned_at"`
	Failures               int64     `json:"failures"`
	// RetiredKeyRetention is in force at this time, in seconds.
	RetiredKeyRetention int64 `json:"retired_key_retention"`
}

// RotationStarted makes a new version the active one.
type RotationStarted struct{ Rotation }

// RotationCompleted leaves no page on the previous version.
type RotationCompleted struct{ RotationEnd }

// RotationRolledBack leaves no page on the new version; the previous one is active.
type RotationRolledBack struct{ RotationEnd }

// RotationFailed leaves pages that did not open on the previous version.
type RotationFailed struct{ RotationEnd }

// KeyImported names a version whose key came from outside.
type KeyImported struct {
	Version     int64  `json:"version"`
	KeyID       string `json:"key_id"`
	KeyType     string `json:"key_type"`
	Fingerprint string `json:"fingerprint"`
}

// KeyDestroyed ends a key.
type KeyDestroyed struct {
	// Version is 0 for a key that has none (placement, kek).
	Version int64  `json:"version"`
	KeyID   string `json:"key_id"`
	// Which is page, external, placement or kek.
	Which string `json:"which"`
	// Why is one of the Why constants.
	Why          string `json:"why"`
	PagesScanned int64  `json:"pages_scanned"`
	// PagesLeft is 0 unless the destruction was forced.
	PagesLeft int64 `json:"pages_left"`
}

// KEKRotated is the switch to another key-encryption key, of the mount or of a tenant.
type KEKRotated struct {
	PreviousKeyID    string `json:"previous_key_id"`
	NewKeyID         string `json:"new_key_id"`
	PreviousProvider string `json:"previous_provider"`
	NewProvider      string `json:"new_provider"`
}

// Values are settings as text, by name. A list is its members with commas between
// them, a duration is in seconds. A credential is never among them.
type Values map[string]string

// MarshalJSON writes no values as an empty object.
func (v Values) MarshalJSON() ([]byte, error) { return marshalMap(v) }

// Counts are numbers by kind of item.
type Counts map[string]int64

// MarshalJSON writes no counts as an empty object.
func (c Counts) MarshalJSON() ([]byte, error) { return marshalMap(c) }

func marshalMap[M ~map[string]V, V any](m M) ([]byte, error) {
	if m == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(map[string]V(m))
}

// Change is what changed: Old lacks what is new, New what is gone.
type Change struct {
	Old Values `json:"old"`
	New Values `json:"new"`
}

// ProviderChanged is a key provider written or deleted.
type ProviderChanged struct {
	Provider string `json:"provider"`
	Change
}

// ProviderDenied is a provider's refusal to open a KEK.
type ProviderDenied struct {
	Provider string `json:"provider"`
	KeyID    string `json:"key_id"`
}

// HolderChanged is a holder written, deleted, or what it reported.
type HolderChanged struct {
	Holder string `json:"holder"`
	Change
}

// MinimumChanged is another least version that decrypts.
type MinimumChanged struct {
	Old int64 `json:"old"`
	New int64 `json:"new"`
}

// SettingsChanged is a change of config, of rotationSettings, or of a tenant's own.
type SettingsChanged struct {
	// Path is config, rotationSettings or tenant.
	Path string `json:"path"`
	Change
}

// LogKeyRotated is a new signing key of the log. The checkpoint that ends with
// this entry has the signatures of both.
type LogKeyRotated struct {
	Old string `json:"old"`
	New string `json:"new"`
}
