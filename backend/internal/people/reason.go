// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package people

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

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
