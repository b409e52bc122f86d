// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// DamageFamily is a kind of entries, with what damages one of it.
type DamageFamily struct {
	Name string
	// damage damages an entry of TenantID's, or of the mount's, whose record is t. It
	// reports whether there is one.
	Damage func(d *storagetest.Disk, t *tenant.Record) bool
	Mount  bool // an entry that all tenants share
	// hidesShard says that no tenant of a part can be found by its record.
	HidesShard bool
	Own        bool // an entry that TenantID has only with a KEK of its own
}

// unreadable is the family of the entries that match.
func unreadable(name string, err error, match func(t *tenant.Record, key string) bool) DamageFamily {
	return DamageFamily{Name: name, Damage: func(d *storagetest.Disk, t *tenant.Record) bool {
		return d.Damage(err, func(key string) bool { return match(t, key) }) > 0
	}}
}

func ofMount(f DamageFamily) DamageFamily {
	f.Mount = true
	return f
}

// ofOwn is a family that the tenant has with a KEK of its own.
func ofOwn(f DamageFamily) DamageFamily {
	f.Own = true
	return f
}

// ownKEK matches the KEK of the tenant's own of an ID, none if that is empty.
func ownKEK(idOf func(keystore.KEKRecord) string) func(*tenant.Record, string) bool {
	return func(t *tenant.Record, key string) bool {
		id := idOf(t.OwnKEK())
		return id != "" && key == ownKEKKey(t.Incarnation, id)
	}
}

func inUse(r keystore.KEKRecord) string { return r.KEKID }

// left is the KEK that the tenant's keys are leaving.
func left(r keystore.KEKRecord) string {
	if !r.Rotation.Unfinished() {
		return ""
	}
	return r.Rotation.From
}

// startsWith matches the keys that begin with a prefix and the tenant's incarnation.
func startsWith(prefix, rest string) func(*tenant.Record, string) bool {
	return func(t *tenant.Record, key string) bool {
		return strings.HasPrefix(key, prefix+t.Incarnation+rest)
	}
}

// keyOf matches the key of a version, counted from the end.
func keyOf(fromEnd int, suffix string) func(*tenant.Record, string) bool {
	return func(t *tenant.Record, key string) bool {
		i := len(t.Keys.Versions) - 1 - fromEnd
		return i >= 0 && key == "keys/"+t.Incarnation+"/"+t.Keys.Versions[i].KeyID+suffix
	}
}

func exactly(want string) func(*tenant.Record, string) bool {
	return func(_ *tenant.Record, key string) bool { return key == want }
}

func below(prefix string) func(*tenant.Record, string) bool {
	return func(_ *tenant.Record, key string) bool { return strings.HasPrefix(key, prefix) }
}

// part matches the entries of one kind of the evidence log's.
func part(kind string) func(*tenant.Record, string) bool {
	return func(_ *tenant.Record, key string) bool {
		return strings.HasPrefix(key, "evidence/log/") && strings.Contains(key, "/"+kind+"/")
	}
}

func unlistable(name string, prefix func(t *tenant.Record) string) DamageFamily {
	return DamageFamily{Name: name, Damage: func(d *storagetest.Disk, t *tenant.Record) bool {
		d.DamageList(storagetest.ErrUnread, prefix(t))
		return true
	}}
}

func ofRecord(t *tenant.Record, key string) bool {
	return strings.HasPrefix(key, "tenants/") && strings.HasSuffix(key, t.ID)
}

// onePage damages the page, or delta, whose key comes first.
func onePage(name, kind string, err error) DamageFamily {
	return DamageFamily{Name: name, Damage: func(d *storagetest.Disk, t *tenant.Record) bool {
		keys := d.Keys("pages/" + t.Incarnation + "/" + kind)
		return len(keys) > 0 && d.Damage(err, func(key string) bool { return key == keys[0] }) > 0
	}}
}

// DamageFamilies are the ways in which an entry of each kind can be damaged.
var DamageFamilies = []DamageFamily{
	onePage("page", "p", storagetest.ErrAltered),
	onePage("page, of another key of Vault's", "p", storagetest.ErrTerm),
	onePage("page, with an error that says nothing", "p", storagetest.ErrUnread),
	onePage("delta", "d", storagetest.ErrAltered),
	unreadable("all pages", storagetest.ErrAltered, startsWith("pages/", "/p")),
	unlistable("list of pages", func(t *tenant.Record) string { return "pages/" + t.Incarnation + "/" }),
	unreadable("write-ahead log", storagetest.ErrAltered, func(_ *tenant.Record, key string) bool { return strings.HasPrefix(key, "wal/") }),
	unreadable("write-ahead log, with an error that says nothing", storagetest.ErrUnread,
		func(_ *tenant.Record, key string) bool { return strings.HasPrefix(key, "wal/") }),
	{Name: "write-ahead log that shows nothing", Damage: func(d *storagetest.Disk, _ *tenant.Record) bool {
		return d.Hide(storagetest.Below("wal/")) > 0
	}},
	unlistable("list of the write-ahead log", func(*tenant.Record) string { return "wal/" }),
	unreadable("record", storagetest.ErrAltered, ofRecord),
	unreadable("record, with an error that says nothing", storagetest.ErrUnread, ofRecord),
	unreadable("page key in use", storagetest.ErrAltered, keyOf(0, "")),
	unreadable("page key before it", storagetest.ErrAltered, keyOf(1, "")),
	unreadable("external key", storagetest.ErrAltered, keyOf(1, ".ext")),
	unreadable("placement key", storagetest.ErrAltered, func(t *tenant.Record, key string) bool { return strings.HasSuffix(key, t.PlacementKeyID) }),
	unlistable("list of keys", func(t *tenant.Record) string { return "keys/" + t.Incarnation + "/" }),
	unreadable("counts of seals", storagetest.ErrAltered, startsWith("seals/", "/")),
	unreadable("history", storagetest.ErrAltered, startsWith("history/", "/")),
	unlistable("list of the history", func(t *tenant.Record) string { return "history/" + t.Incarnation + "/" }),
	{Name: "history that shows nothing", Damage: func(d *storagetest.Disk, t *tenant.Record) bool {
		return d.Hide(storagetest.Below("history/"+t.Incarnation)) > 0
	}},
	unreadable("progress", storagetest.ErrAltered, startsWith("progress/", "")),
	{Name: "list of a part of the tenants", HidesShard: true, Damage: func(d *storagetest.Disk, t *tenant.Record) bool {
		d.DamageList(storagetest.ErrUnread, "tenants/"+ShardName(t.ID)+"/")
		return true
	}},
	unlistable("list of all parts of the tenants", func(*tenant.Record) string { return "tenants/" }),
	ofMount(unreadable("configuration", storagetest.ErrAltered, exactly("config"))),
	unreadable("rotation settings", storagetest.ErrAltered, exactly("settings")),
	unreadable("wrapping keys", storagetest.ErrAltered, below("import/keys/")),
	unreadable("which wrapping keys there are", storagetest.ErrAltered, exactly("import/current")),
	unreadable("progress of the KEK", storagetest.ErrAltered, exactly("kek/progress")),
	unlistable("list of KEKs", func(*tenant.Record) string { return "kek/keys/" }),
	unreadable("key provider", storagetest.ErrAltered, below("providers/")),
	unlistable("list of key providers", func(*tenant.Record) string { return "providers/" }),
	ofOwn(unreadable("KEK of a tenant's own", storagetest.ErrAltered, ownKEK(inUse))),
	ofOwn(unreadable("KEK of a tenant's own, with an error that says nothing", storagetest.ErrUnread, ownKEK(inUse))),
	ofOwn(unreadable("KEK of a tenant's own that its keys leave", storagetest.ErrAltered, ownKEK(left))),
	ofOwn(unlistable("list of a tenant's own KEKs", func(t *tenant.Record) string { return "tenantkeks/" + t.Incarnation[:2] + "/" })),
	ofOwn(unreadable("key provider of a tenant's own KEK", storagetest.ErrAltered, below("providers/"))),
	unreadable("uses", storagetest.ErrAltered, startsWith("uses/", "")),
	unreadable("tombstone", storagetest.ErrAltered, below("tombstones/")),
	unlistable("list of tombstones", func(*tenant.Record) string { return "tombstones/" + ShardName(shreddedTenant) + "/" }),
	unreadable("epochs of the evidence log", storagetest.ErrAltered, below("evidence/epochs/")),
	unreadable("keys of the evidence log", storagetest.ErrAltered, below("evidence/keys/")),
	unreadable("chunks of the evidence log", storagetest.ErrAltered, part("chunk")),
	unreadable("checkpoints", storagetest.ErrAltered, part("checkpoint")),
	unreadable("edges of the evidence log", storagetest.ErrAltered, part("edge")),
	unreadable("start that the log notes", storagetest.ErrAltered, exactly("evidence/started")),
	unreadable("person", storagetest.ErrAltered, below("evidence/people/")),
	unreadable("ID of a person", storagetest.ErrAltered, below("evidence/person_ids/")),
	unreadable("reason", storagetest.ErrAltered, below("evidence/reasons/")),
	unreadable("witnesses", storagetest.ErrAltered, exactly("evidence/witnesses")),
}

// ShardName is the part of the keys of records in which a tenant lies.
func ShardName(tenantID string) string {
	const digits = "0123456789abcdef"
	n := tenant.ShardOf(tenantID)
	return string([]byte{digits[n>>4], digits[n&15]})
}

// Rests lets minutes pass.
func (w *Oracle) Rests(minutes int) {
	for range minutes {
		w.Tick()
	}
}

// shreddedTenant has a tombstone.
const shreddedTenant = "33333333-3333-4333-8333-333333333333"

// witness is the verifier key of one that cosigns nothing.
const witness = "witness.example+9d8c69db+BGG3op9v3HIXXDPBmFc/0CioJHhGCXc+pyvvFPlBZdYO"

// EveryFamily makes an entry of each family that a tenant with items and a rotation behind
// it does not have yet: a key provider, a holder, uses, a tombstone, a reason, a witness.
func (w *Oracle) EveryFamily() {
	w.T.Helper()
	w.Provide(map[string]any{"mount": false})
	w.Hold("warehouse")
	w.ReportGone("warehouse", 1)
	w.Must(Update, "tenants/"+shreddedTenant, nil)
	w.Must(Update, "tenants/"+shreddedTenant+"/dek/rotate", map[string]any{"reason": "leak"})
	Advance(time.Second)
	w.Must(Delete, "tenants/"+shreddedTenant, map[string]any{"deletion_window": 0})
	w.Must(Update, "evidence/witnesses", map[string]any{"witnesses": []string{witness}})
	w.Tick() // notes the uses
}
