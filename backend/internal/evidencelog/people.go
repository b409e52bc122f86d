// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

const (
	prefixPeople  = "evidence/people/"
	prefixPersons = "evidence/person-ids/"
	prefixReasons = "evidence/reasons/"
)

// A Person is who an actor is. It lies beside the log, so that it can be erased.
type Person struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// People keeps who the actors in the log are, and the texts of reasons. It is safe for
// concurrent use.
type People struct {
	storage Storage
	mu      sync.Mutex
}

// NewPeople returns the people of a mount.
func NewPeople(s Storage) *People { return &People{storage: s} }

// personKey is where the random ID of a person is found by its ID in Vault.
func personKey(id string) string {
	sum := sha256.Sum256([]byte("vault-plugin-dek/evidence/person/" + id))
	return prefixPersons + hex.EncodeToString(sum[:])
}

// Actor returns the random ID by which the log names a person. What changed of the
// person is stored. A person that was erased gets another ID.
func (p *People) Actor(ctx context.Context, person Person) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	raw, err := p.storage.Get(ctx, personKey(person.ID))
	if err != nil {
		return "", err
	}
	actor := string(raw)
	if actor == "" {
		actor = "person-" + uuid.NewString()
	}
	known, err := p.Person(ctx, actor)
	if err != nil || known != nil && *known == person {
		return actor, err
	}
	value, err := json.Marshal(person)
	if err != nil {
		return "", fmt.Errorf("encoding a person: %w", err)
	}
	if err := p.storage.Put(ctx, prefixPeople+actor, value); err != nil {
		return "", err
	}
	if raw != nil {
		return actor, nil
	}
	return actor, p.storage.Put(ctx, personKey(person.ID), []byte(actor))
}

// Person returns who an actor is, nil if nobody is known by the ID.
func (p *People) Person(ctx context.Context, actor string) (*Person, error) {
	raw, err := p.storage.Get(ctx, prefixPeople+actor)
	if err != nil || raw == nil {
		return nil, err
	}
	var person Person
	if err := json.Unmarshal(raw, &person); err != nil {
		return nil, fmt.Errorf("decoding a person: %w", err)
	}
	return &person, nil
}

// Erase forgets who an actor is. The log keeps the random ID.
func (p *People) Erase(ctx context.Context, actor string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	person, err := p.Person(ctx, actor)
	if err != nil || person == nil {
		return err
	}
	// The way to the ID goes first: the ID without its person is nobody's.
	if err := p.storage.Delete(ctx, personKey(person.ID)); err != nil {
		return err
	}
	return p.storage.Delete(ctx, prefixPeople+actor)
}

// reason is the text of a reason, with the salt that its hash needs.
type reason struct {
	Salt []byte `json:"salt"`
	Text string `json:"text"`
}

// KeepReason stores the text of an event's reason, and returns the hash that the event
// says. The same event gets the same hash again. An empty text has none.
func (p *People) KeepReason(ctx context.Context, eventID, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var kept reason
	raw, err := p.storage.Get(ctx, prefixReasons+eventID)
	if err != nil {
		return "", err
	}
	if raw != nil && json.Unmarshal(raw, &kept) == nil && kept.Text == text {
		return evidence.HashReason(kept.Salt, text)
	}
	kept = reason{Salt: make([]byte, evidence.SaltSize), Text: text}
	if _, err := rand.Read(kept.Salt); err != nil {
		return "", fmt.Errorf("making a salt: %w", err)
	}
	hash, err := evidence.HashReason(kept.Salt, text)
	if err != nil {
		return "", err
	}
	if raw, err = json.Marshal(kept); err != nil {
		return "", fmt.Errorf("encoding a reason: %w", err)
	}
	return hash, p.storage.Put(ctx, prefixReasons+eventID, raw)
}
