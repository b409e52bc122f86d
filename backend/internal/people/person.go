// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package people

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// Named returns an actor that a record has, with the name and the email that are known. It
// does not fail: the ID says who it is, and an entry that cannot be read keeps no record
// from being read.
func (p *Store) Named(ctx context.Context, who actor.Actor) actor.Actor {
	if who == actor.System || who.ID == "" {
		return who
	}
	id, err := through(p.ids, personKey(who.ID), func(key string) (string, error) {
		raw, err := p.storage.Get(ctx, key)
		return string(raw), err
	})
	switch {
	case err != nil || id == erased:
		return who.Bare()
	case !IsActor(id):
		return who // as an earlier version stored it, until [Store.Keep] has it
	}
	person, err := through(p.persons, prefixPeople+id, func(string) (actor.Actor, error) {
		person, err := p.person(ctx, id)
		if person == nil {
			return actor.Actor{}, err
		}
		return *person, nil
	})
	switch {
	case err != nil:
		return who.Bare()
	case person.ID == "":
		return who // [Store.Keep] stores the way to a person first
	case person.ID != who.ID:
		return who.Bare()
	}
	return person
}

// through returns what is cached at a key, or gets it.
func through[V any](c *storage.Cache[V], key string, get func(key string) (V, error)) (V, error) {
	v, cached, lease := c.Get(key)
	if cached {
		return v, nil
	}
	v, err := get(key)
	if err == nil {
		c.Keep(key, v, lease)
	}
	return v, err
}

// Person returns who an actor is, nil if nobody is known. The actor is named by the random
// ID or by the ID in Vault.
func (p *Store) Person(ctx context.Context, text string) (*actor.Actor, error) {
	id, err := p.find(ctx, text)
	if err != nil || id == "" {
		return nil, err
	}
	return p.person(ctx, id)
}

// find returns the random ID of a person, empty if nobody is known.
func (p *Store) find(ctx context.Context, text string) (string, error) {
	if IsActor(text) {
		return text, nil
	}
	raw, err := p.storage.Get(ctx, personKey(text))
	if err != nil || !IsActor(string(raw)) {
		return "", err
	}
	return string(raw), nil
}

// entry is a person as storage has one: an [actor.Actor] leaves the name out.
type entry struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

func (p *Store) person(ctx context.Context, id string) (*actor.Actor, error) {
	raw, err := p.storage.Get(ctx, prefixPeople+id)
	if err != nil || raw == nil {
		return nil, err
	}
	var person entry
	if err := json.Unmarshal(raw, &person); err != nil {
		return nil, fmt.Errorf("%w: decoding a person: %w", storage.ErrDamaged, err)
	}
	return (*actor.Actor)(&person), nil
}

// Erase forgets who an actor is, named as [Store.Person] has it, and reports whether there
// was somebody to forget. The log keeps the random ID, and records the ID in Vault. After
// an error it is to be repeated.
func (p *Store) Erase(ctx context.Context, text string) (found bool, err error) {
	release, err := p.hold(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	defer p.actors.Purge() // after the writes, and after failed ones too
	id, err := p.find(ctx, text)
	if err != nil || id == "" {
		return false, err
	}
	person, err := p.person(ctx, id)
	if err != nil && !storage.IsDamaged(err) {
		return false, err
	}
	isThere := person != nil || err != nil
	// What says the name goes first, also one that does not show, since a Put of it failed
	// with effect. Then nothing leads to the random ID any more.
	if err := p.deletePerson(ctx, id); err != nil {
		return isThere, err
	}
	way := personKey(text) // an earlier try may have deleted the person
	switch {
	case person != nil:
		way = personKey(person.ID)
	case text == id:
		return isThere, nil // the way to it is not known
	}
	// Another ID may have taken this one's place, where the way to it could not be read.
	raw, err := p.storage.Get(ctx, way)
	if err != nil && !storage.IsDamaged(err) {
		return true, err
	}
	if other := string(raw); IsActor(other) && other != id {
		if err := p.deletePerson(ctx, other); err != nil {
			return true, err
		}
	}
	return true, p.putID(ctx, way, erased)
}

func (p *Store) deletePerson(ctx context.Context, id string) error {
	key := prefixPeople + id
	p.persons.Begin(key)
	defer p.persons.End(key, nil)
	return p.storage.Delete(ctx, key)
}
