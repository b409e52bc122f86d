// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package people keeps who the actors in the evidence log are, and the texts of
// reasons. They lie beside the log, so that they can be erased: the log names a person
// by a random ID, and a reason by a salted hash.
//
//	evidence/people/<actor>      the person
//	evidence/person_ids/<hash>   the random ID of a person, by the hash of its ID in Vault
//	evidence/reasons/<hash>      the salt and the text of a reason
//
// An entry that cannot be read is written anew: a damaged one stops nobody.
package people

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

const (
	prefixPeople  = "evidence/people/"
	prefixPersons = "evidence/person_ids/"
	prefixReasons = "evidence/reasons/"

	actorPrefix = "person-"

	// cached bounds the persons and the reasons held in memory.
	cached = 256
)

// Storage holds the people.
type Storage interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
}

// Store keeps the people of a mount. It is safe for concurrent use.
type Store struct {
	storage Storage
	lock    chan struct{}                   // is full while somebody writes
	actors  *lru.Cache[actor.Actor, string] // stored as they are
	reasons *lru.Cache[string, string]      // hash by text
}

// NewStore returns the people of a mount.
func NewStore(s Storage) *Store {
	p := &Store{storage: s, lock: make(chan struct{}, 1)}
	p.actors, _ = lru.New[actor.Actor, string](cached) // fails only for a size of 0
	p.reasons, _ = lru.New[string, string](cached)
	return p
}

// hold waits until nobody else writes, or ctx ends.
func (p *Store) hold(ctx context.Context) (release func(), err error) {
	select {
	case p.lock <- struct{}{}:
		return func() { <-p.lock }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// hashed is a name in storage that does not show what it is of.
func hashed(label, text string) string {
	sum := sha256.Sum256([]byte("vault-plugin-dek/evidence/" + label + "/" + text))
	return hex.EncodeToString(sum[:])
}

// personKey is where the random ID of a person is found by its ID in Vault.
func personKey(id string) string { return prefixPersons + hashed("person", id) }

// IsActor reports whether a text is the random ID of a person.
func IsActor(text string) bool {
	id, is := strings.CutPrefix(text, actorPrefix)
	parsed, err := uuid.Parse(id)
	return is && err == nil && parsed.String() == id
}

// Actor returns the random ID by which the log names a person. What changed of the
// person is stored. A person that was erased gets another ID.
func (p *Store) Actor(ctx context.Context, person actor.Actor) (string, error) {
	if known, found := p.actors.Get(person); found {
		return known, nil
	}
	release, err := p.hold(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	if known, found := p.actors.Get(person); found {
		return known, nil
	}
	raw, err := p.storage.Get(ctx, personKey(person.ID))
	id := string(raw)
	isNew := err != nil || !IsActor(id)
	if isNew {
		id = actorPrefix + uuid.NewString()
	}
	if known, err := p.person(ctx, id); err != nil || known == nil || *known != person {
		value, err := json.Marshal(person)
		if err != nil {
			return "", fmt.Errorf("encoding a person: %w", err)
		}
		if err := p.storage.Put(ctx, prefixPeople+id, value); err != nil {
			return "", err
		}
	}
	if isNew {
		if err := p.storage.Put(ctx, personKey(person.ID), []byte(id)); err != nil {
			return "", err
		}
	}
	p.actors.Add(person, id)
	return id, nil
}

// Person returns who an actor is, nil if nobody is known by the ID.
func (p *Store) Person(ctx context.Context, id string) (*actor.Actor, error) {
	if !IsActor(id) {
		return nil, nil //nolint:nilnil // nobody is
	}
	return p.person(ctx, id)
}

func (p *Store) person(ctx context.Context, id string) (*actor.Actor, error) {
	raw, err := p.storage.Get(ctx, prefixPeople+id)
	if err != nil || raw == nil {
		return nil, err
	}
	var person actor.Actor
	if err := json.Unmarshal(raw, &person); err != nil {
		return nil, fmt.Errorf("decoding a person: %w", err)
	}
	return &person, nil
}

// Erase forgets who an actor is. The log keeps the random ID.
func (p *Store) Erase(ctx context.Context, id string) error {
	release, err := p.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	defer p.actors.Purge() // after the writes, and after failed ones too
	person, err := p.Person(ctx, id)
	if err != nil || person == nil {
		return err
	}
	// The way to the ID goes first: the ID without its person is nobody's.
	if err := p.storage.Delete(ctx, personKey(person.ID)); err != nil {
		return err
	}
	return p.storage.Delete(ctx, prefixPeople+id)
}

// reason is the text of a reason, with the salt that its hash needs.
type reason struct {
	Salt []byte `json:"salt"`
	Text string `json:"text"`
}

// Reason stores the text of a reason, and returns the hash that events say. The same
// text gets the same hash, so that a reason given for many tenants is one entry. An
// empty text has none. What is over the limit of an event is cut off.
func (p *Store) Reason(ctx context.Context, text string) (string, error) {
	if text = cut(text); text == "" {
		return "", nil
	}
	if hash, found := p.reasons.Get(text); found {
		return hash, nil
	}
	release, err := p.hold(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	if hash, found := p.reasons.Get(text); found {
		return hash, nil
	}
	key := prefixReasons + hashed("reason", text)
	var kept reason
	raw, err := p.storage.Get(ctx, key)
	isKept := err == nil && raw != nil && json.Unmarshal(raw, &kept) == nil &&
		kept.Text == text && len(kept.Salt) == evidence.SaltSize
	if !isKept {
		kept = reason{Salt: make([]byte, evidence.SaltSize), Text: text}
		if _, err := rand.Read(kept.Salt); err != nil {
			return "", fmt.Errorf("making a salt: %w", err)
		}
	}
	hash, err := evidence.HashReason(kept.Salt, text)
	if err != nil {
		return "", err
	}
	if !isKept {
		if raw, err = json.Marshal(kept); err != nil {
			return "", fmt.Errorf("encoding a reason: %w", err)
		}
		if err := p.storage.Put(ctx, key, raw); err != nil {
			return "", err
		}
	}
	p.reasons.Add(text, hash)
	return hash, nil
}

// cut shortens a text to what an event may give as a reason.
func cut(text string) string {
	if len(text) > evidence.MaxReason {
		text = text[:evidence.MaxReason]
	}
	return strings.ToValidUTF8(text, "")
}
