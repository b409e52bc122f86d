// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package intents

import "github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"

// Intent says that a rotation is under way, or the creation of a tenant, which is a rotation
// from nothing. It is immutable and never holds key material. It exists from before the new
// keys are made until after the end.
type Intent struct {
	ID          string `json:"-" mapstructure:"-"` // given by the log
	TenantID    string `json:"tenant_id" mapstructure:"tenant_id"`
	Incarnation string `json:"incarnation" mapstructure:"incarnation"`
	RotationID  string `json:"rotation_id,omitempty" mapstructure:"rotation_id"` // empty: a creation
	KeyID       string `json:"key_id,omitempty" mapstructure:"key_id"`
}

// IsCreation reports whether the intent is of the creation of a tenant.
func (i Intent) IsCreation() bool { return i.RotationID == "" }

// JobID keys the work on an intent.
func (i Intent) JobID() string {
	if i.IsCreation() {
		return "creation/" + i.Incarnation
	}
	return i.RotationID
}

// Of is the intent of t's unfinished rotation.
func Of(t *tenant.Record) Intent {
	r := t.Rotation
	return Intent{ID: r.IntentID, TenantID: t.ID, Incarnation: t.Incarnation, RotationID: r.ID, KeyID: r.ToKeyID}
}
