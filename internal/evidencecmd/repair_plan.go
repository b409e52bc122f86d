// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencecmd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/history"
)

// counted is the type of keys whose messages are counted.
const countedType = "aes256-gcm"

// plan is what a repair does.
type plan struct {
	shredded []string   // tenants that came back
	keys     []backKeys // of tenants that go on
	counts   []string   // tenants whose counts may be too low
	keks     []backKEKs // key-encryption keys of tenants' own
	kek      string     // the mount's key-encryption key, if it came back; else empty
}

// backKeys are the versions of a tenant that came back.
type backKeys struct {
	tenant   *history.Tenant
	versions []int
	rotate   bool // one is active, or pages are on it
}

func (p *plan) empty() bool {
	return len(p.shredded)+len(p.keys)+len(p.counts)+len(p.keks) == 0 && p.kek == ""
}

// liveKeys are a tenant's keys as the mount has them now.
type liveKeys struct {
	CurrentVersion int           `json:"current_version"`
	Versions       []liveVersion `json:"versions"`
}

type liveVersion struct {
	Version             int    `json:"version"`
	KeyID               string `json:"key_id"`
	KeyType             string `json:"key_type"`
	State               string `json:"state"`
	PageKeyDestroyedAt  any    `json:"page_key_destroyed_at"`
	ExternalDestroyedAt any    `json:"external_key_destroyed_at"`
	ExternalUse         bool   `json:"external_use"`
	Pages               int    `json:"pages"`
}

// live reads a tenant's keys, nil if the mount has no such tenant, or is deleting it.
func (r *repair) live(ctx context.Context, tenantID string) (*liveKeys, error) {
	return readAt[liveKeys](ctx, r, r.tenantPath(tenantID)+"/dek")
}

// readAt reads what a path of Vault's answers, nil if there is nothing.
func readAt[T any](ctx context.Context, r *repair, path string) (*T, error) {
	secret, err := r.vault.client.Logical().ReadWithContext(ctx, path)
	if status(err) == http.StatusNotFound || err == nil && secret == nil {
		return nil, nil //nolint:nilnil // there is nothing
	}
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(secret.Data)
	if err != nil {
		return nil, err
	}
	found := new(T)
	if err := json.Unmarshal(text, found); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return found, nil
}

func (r *repair) tenantPath(id string) string { return r.vault.mount + "/tenants/" + id }

// plan compares what the kept log says of each incarnation with what the mount has. Keys
// have random IDs: one of the same ID is the same key, of the same incarnation.
func (r *repair) plan(ctx context.Context, h *history.History, keks map[string]bool) (*plan, error) {
	p := &plan{}
	if len(keks) > 0 {
		now, err := r.liveKEK(ctx, "")
		if err != nil {
			return nil, err
		}
		if now != nil && keks[now.ID] {
			p.kek = now.ID
		}
	}
	for _, t := range h.Tenants() {
		if err := r.planTenant(ctx, p, t); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// planTenant adds to a plan what of an incarnation came back.
func (r *repair) planTenant(ctx context.Context, p *plan, t *history.Tenant) error {
	live, err := r.live(ctx, t.ID)
	if err != nil || live == nil || !live.isOf(t) {
		return err
	}
	if t.Shredded != nil {
		p.shredded = append(p.shredded, t.ID)
		return nil
	}
	back := live.back(t)
	if len(back.versions) > 0 {
		p.keys = append(p.keys, back)
	}
	own, err := r.ownKEKs(ctx, t)
	if err != nil {
		return err
	}
	if len(own.ids) > 0 {
		p.keks = append(p.keks, own)
	}
	if active := live.version(live.CurrentVersion); !back.rotate && active != nil && active.KeyType == countedType && known(t, active.KeyID) != nil {
		p.counts = append(p.counts, t.ID)
	}
	return nil
}

// isOf reports whether the mount has a key of an incarnation.
func (k *liveKeys) isOf(t *history.Tenant) bool {
	return slices.ContainsFunc(k.Versions, func(v liveVersion) bool { return known(t, v.KeyID) != nil })
}

func (k *liveKeys) version(number int) *liveVersion {
	for i := range k.Versions {
		if k.Versions[i].Version == number {
			return &k.Versions[i]
		}
	}
	return nil
}

func known(t *history.Tenant, keyID string) *history.Version {
	for _, v := range t.Versions {
		if v.KeyID == keyID {
			return v
		}
	}
	return nil
}

// back returns the versions whose keys the kept log says were destroyed, and that are there.
func (k *liveKeys) back(t *history.Tenant) backKeys {
	b := backKeys{tenant: t}
	for _, v := range k.Versions {
		was := known(t, v.KeyID)
		if was == nil || !v.cameBack(was) {
			continue
		}
		b.versions = append(b.versions, v.Version)
		b.rotate = b.rotate || v.State != "deactivated" || v.Pages > 0
	}
	return b
}

func (v *liveVersion) cameBack(was *history.Version) bool {
	if v.State == "destroyed" {
		return false
	}
	return was.Destroyed[evidence.WhichPage] != nil && v.PageKeyDestroyedAt == nil ||
		was.Destroyed[evidence.WhichExternal] != nil && v.ExternalDestroyedAt == nil && v.ExternalUse
}

// tell shows the plan.
func (p *plan) tell(r *repair) error {
	if p.empty() {
		return r.say("plan", "", "No key and no tenant came back that had been destroyed, and no count is too low.")
	}
	for _, b := range p.keys {
		first := ""
		if b.rotate {
			first = "rotate it, then "
		}
		if err := r.say("plan", b.tenant.ID, "Tenant %s: destroyed keys came back, of versions %v. Plan: %sdestroy them, not by force.",
			b.tenant.ID, b.versions, first); err != nil {
			return err
		}
	}
	for _, id := range p.shredded {
		if err := r.say("plan", id, "Tenant %s was shredded and came back. Plan: delete it, with the default deletion window.", id); err != nil {
			return err
		}
	}
	for _, b := range p.keks {
		if err := r.say("plan", b.tenant.ID, "Tenant %s: key-encryption keys of its own came back: %s. Plan: rotate it off them (kek/rotate), which destroys them.",
			b.tenant.ID, strings.Join(b.ids, ", ")); err != nil {
			return err
		}
	}
	if p.kek != "" {
		if err := r.say("plan", "", "The key-encryption key %s came back. Plan: rotate it (kek/rotate), which destroys it.", p.kek); err != nil {
			return err
		}
	}
	for _, id := range p.counts {
		if err := r.say("plan", id, "Tenant %s: the count of what its %s key has sealed may be too low. Plan: make it due for a rotation.",
			id, countedType); err != nil {
			return err
		}
	}
	return nil
}
