// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// Key is a tenant's data-encryption key: its versions.
type Key struct {
	CurrentVersion       int          `json:"current_version"`
	CurrentKeyID         string       `json:"current_key_id"`
	MinDecryptionVersion int          `json:"min_decryption_version"`
	FollowHolders        bool         `json:"follow_holders"` // whether external keys go as holders report
	Versions             []KeyVersion `json:"versions"`       // oldest first
}

// KeyVersion is one version of a key.
type KeyVersion struct {
	Version       int        `json:"version"`
	KeyID         string     `json:"key_id"`
	KeyType       string     `json:"key_type"`
	State         string     `json:"state"` // pending, active, deactivated or destroyed
	CreatedAt     *time.Time `json:"created_at"`
	ActivatedAt   *time.Time `json:"activated_at"`
	DeactivatedAt *time.Time `json:"deactivated_at"`
	DestroyedAt   *time.Time `json:"destroyed_at"`
	// PageKeyDestroyedAt and ExternalKeyDestroyedAt are nil while the key is there, and
	// the latter also if there never was one.
	PageKeyDestroyedAt     *time.Time `json:"page_key_destroyed_at"`
	ExternalKeyDestroyedAt *time.Time `json:"external_key_destroyed_at"`
	// ExternalKeyDestroyAfter is when the external key is to be destroyed, since all holders
	// have reported the version gone; nil: it is kept.
	ExternalKeyDestroyAfter *time.Time `json:"external_key_destroy_after"`

	ExternalUse bool `json:"external_use"` // whether something left the engine under it
	// LastExternalUse is the day, as 2006-01-02 in UTC, on which something was last sealed
	// or opened under it; empty: never.
	LastExternalUse string `json:"last_external_use"`
	Pages           int    `json:"pages"` // how many pages of items are on it
	RotationID      string `json:"rotation_id"`
	Imported        bool   `json:"imported"`
}

// Key reads the versions of the tenant's key.
func (t *Tenant) Key(ctx context.Context) (*Key, error) {
	key := new(Key)
	err := t.c.do(ctx, call{op: "read key", method: http.MethodGet, path: t.path("/dek")}, key)
	return orNil(key, err)
}

// CurrentVersion is the version that seals now. An engine that does not serve
// dek/current is asked for a data key instead, which says it as well.
func (t *Tenant) CurrentVersion(ctx context.Context) (int, error) {
	var answer struct {
		CurrentVersion int `json:"current_version"`
	}
	err := t.c.do(ctx, call{op: "read current version", method: http.MethodGet, path: t.path("/dek/current")}, &answer)
	if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrForbidden) {
		return answer.CurrentVersion, err
	}
	key, err := t.WrappedDataKey(ctx, DataKeyRequest{})
	if err != nil {
		return 0, err
	}
	return key.KeyVersion, nil
}

// SetMinDecryptionVersion sets the least version whose ciphertexts are opened,
// and returns what holds.
func (t *Tenant) SetMinDecryptionVersion(ctx context.Context, version int) (int, error) {
	var answer struct {
		MinDecryptionVersion int `json:"min_decryption_version"`
	}
	err := t.c.do(ctx, call{
		op: "configure key", method: http.MethodPut, path: t.path("/dek/config"),
		body: map[string]int{"min_decryption_version": version},
	}, &answer)
	return answer.MinDecryptionVersion, err
}

// DestroyVersion destroys a deactivated version. Unless force is set it is
// [ErrConflict] while something depends on the version. It may be repeated: a
// destroyed version stays so.
func (t *Tenant) DestroyVersion(ctx context.Context, version int, force bool) (*KeyVersion, error) {
	answer := new(KeyVersion)
	err := t.c.do(ctx, call{
		op: "destroy key version", method: http.MethodPut,
		path: t.path("/dek/versions/" + strconv.Itoa(version) + "/destroy"), body: map[string]bool{"force": force},
	}, answer)
	return orNil(answer, err)
}
