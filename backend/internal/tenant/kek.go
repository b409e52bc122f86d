// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import "github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"

// OwnKEK describes the KEK of the tenant's own. The zero value: the mount's wraps its keys,
// and always has.
func (t *Record) OwnKEK() keystore.KEKRecord {
	if t.KEK == nil {
		return keystore.KEKRecord{}
	}
	return *t.KEK
}

// KEKID is the ID of the KEK of the tenant's own, empty if the mount's wraps its keys.
func (t *Record) KEKID() string { return t.OwnKEK().KEKID }

// OwnKEKs are the KEKs of the tenant's own that the record names: the one that wraps its
// keys, and during a move the one that they leave.
func (t *Record) OwnKEKs() (ids []string) {
	kek := t.OwnKEK()
	if kek.KEKID != "" {
		ids = append(ids, kek.KEKID)
	}
	if r := kek.Rotation; r.Unfinished() && r.From != "" {
		ids = append(ids, r.From)
	}
	return ids
}

// KeyProvider is the provider that the KEK of the tenant's own is under, empty if the mount's
// wraps its keys.
func (t *Record) KeyProvider() string { return t.OwnKEK().Provider }

// Moving reports whether the tenant's keys are being moved to another KEK, which goes on in
// the background: not for one whose keys are being destroyed.
func (t *Record) Moving() bool { return t.State != Shredding && t.OwnKEK().Rotation.Unfinished() }

// KEKRanges returns whose KEKs wrap the tenant's keys, as keystore takes them: those of its
// own incarnation, those of the mount (empty), or during a move both.
func (t *Record) KEKRanges() []string {
	switch {
	case t.Moving():
		return []string{t.Incarnation, ""}
	case t.KEKID() != "":
		return []string{t.Incarnation}
	}
	return []string{""}
}
