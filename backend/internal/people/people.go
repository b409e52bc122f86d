// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package people keeps who the persons are that asked for something, and the texts of
// reasons. They lie in one place, so that they can be erased: the evidence log names a
// person by a random ID, and a reason by a salted hash; records name a person by the ID
// in Vault. A name and an email are nowhere else.
//
//	evidence/people/<actor>      the person
//	evidence/person_ids/<hash>   the random ID of a person, by the hash of its ID in Vault;
//	                             "erased" once the person was erased
//	evidence/reasons/<hash>      the salt and the text of a reason
//
// An entry that cannot be read is written anew: a damaged one stops nobody.
package people

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

const (
	prefixPeople  = "evidence/people/"
	prefixPersons = "evidence/person_ids/"
	prefixReasons = "evidence/reasons/"

	actorPrefix = "person-"

	// erased takes the place of a random ID: what an earlier version stored of the person
	// with a record is not to come back.
	erased = "erased"

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

	ids     *storage.Cache[string]      // what lies at a key of person_ids
	persons *storage.Cache[actor.Actor] // what lies at a key of people; without an ID: nothing
}

// NewStore returns the people of a mount.
func NewStore(s Storage) *Store {
	p := &Store{storage: s, lock: make(chan struct{}, 1)}
	p.actors, _ = lru.New[actor.Actor, string](cached) // fails only for a size of 0
	p.reasons, _ = lru.New[string, string](cached)
	p.ids = storage.NewCache(cached, cached, func(string) int { return 1 })
	p.persons = storage.NewCache(cached, cached, func(actor.Actor) int { return 1 })
	return p
}

// Invalidate forgets what is in memory of the entry key, which another node has changed.
func (p *Store) Invalidate(key string) {
	switch {
	case strings.HasPrefix(key, prefixPersons):
		p.ids.Drop(key)
		p.actors.Purge()
	case strings.HasPrefix(key, prefixPeople):
		p.persons.Drop(key)
		p.actors.Purge()
	}
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
// person is stored. One of whom a record has the ID alone stays as it is known. A person
// that was erased gets another ID.
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
	switch {
	case err != nil && !storage.IsDamaged(err):
		return "", err // another ID would leave a name that nothing leads to
	case err != nil || !IsActor(id):
		return p.add(ctx, person)
	}
	known, err := p.person(ctx, id)
	if err != nil && !storage.IsDamaged(err) {
		return "", err
	}
	isOther := err != nil || known == nil || *known != person && person.Named()
	if isOther {
		p.actors.Purge() // a former name is not stored any more
		if err := p.putPerson(ctx, id, person); err != nil {
			return "", err
		}
	}
	p.actors.Add(person, id)
	return id, nil
}

// add stores a person under a new random ID. It is called by the holder of the lock. The
// way to the person comes first: no name is stored that nothing leads to.
func (p *Store) add(ctx context.Context, person actor.Actor) (string, error) {
	id := actorPrefix + uuid.NewString()
	if err := p.putID(ctx, personKey(person.ID), id); err != nil {
		return "", err
	}
	if err := p.putPerson(ctx, id, person); err != nil {
		return "", err
	}
	p.actors.Add(person, id)
	return id, nil
}

func (p *Store) putPerson(ctx context.Context, id string, person actor.Actor) error {
	value, err := json.Marshal(entry(person))
	if err != nil {
		return fmt.Errorf("encoding a person: %w", err)
	}
	key := prefixPeople + id
	p.persons.Begin(key)
	defer p.persons.End(key, nil)
	return p.storage.Put(ctx, key, value)
}

func (p *Store) putID(ctx context.Context, key, value string) error {
	p.ids.Begin(key)
	defer p.ids.End(key, nil)
	return p.storage.Put(ctx, key, []byte(value))
}

// Keep stores a person of whom an earlier version stored the name with a record, unless
// the person is known, or was erased.
func (p *Store) Keep(ctx context.Context, person actor.Actor) error {
	if !person.Named() {
		return nil
	}
	release, err := p.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	raw, err := p.storage.Get(ctx, personKey(person.ID))
	id := string(raw)
	switch {
	case storage.IsDamaged(err):
		return nil // it may be of a person that was erased
	case err != nil:
		return err
	case raw == nil:
		_, err = p.add(ctx, person)
		return err
	case !IsActor(id):
		return nil
	}
	known, err := p.person(ctx, id)
	if known != nil || storage.IsDamaged(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.putPerson(ctx, id, person) // an earlier try has stored the way alone
}
