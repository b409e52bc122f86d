// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package token

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
)

// The bounds of what makes up a key_id, which may have less than 1 kB.
const (
	MaxLabel = 128
	MaxID    = 64
)

// keyID returns the key_id of a key: a PKCS#11 URI (RFC 7512) with label and ID.
func keyID(label string, id []byte) string {
	var b strings.Builder
	b.WriteString(uriOf(label) + ";id=")
	for _, c := range id {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	b.WriteString(";type=secret-key")
	return b.String()
}

// uriOf returns what the key_ids of a label begin with.
func uriOf(label string) string {
	var b strings.Builder
	b.WriteString("pkcs11:object=")
	for _, c := range []byte(label) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// compareIDs compares IDs as numbers. Of equal numbers the longer is the higher.
func compareIDs(a, b []byte) int {
	x, y := bytes.TrimLeft(a, "\x00"), bytes.TrimLeft(b, "\x00")
	return cmp.Or(cmp.Compare(len(x), len(y)), bytes.Compare(x, y), cmp.Compare(len(a), len(b)))
}

// usable returns the keys whose ID can be in a key_id. It fails if there is none.
func (t *Token) usable(s Session) ([]Key, error) {
	all, err := t.lib.Keys(s, t.config.KeyLabel)
	if err != nil {
		return nil, said("finding keys", err)
	}
	var keys []Key
	for _, key := range all {
		if 0 < len(key.ID) && len(key.ID) <= MaxID {
			keys = append(keys, key)
		}
	}
	switch {
	case len(all) == 0:
		return nil, fmt.Errorf("%w: the token has no AES key of the label of -key-label", ErrNoKey)
	case len(keys) == 0:
		return nil, unavailable("the keys of the label of -key-label have no ID (CKA_ID) of 1 to %d bytes", MaxID)
	}
	return keys, nil
}

// current returns the key that encrypts.
func (t *Token) current(s Session) (Key, error) {
	keys, err := t.usable(s)
	if err != nil {
		return Key{}, err
	}
	id := t.config.KeyID
	if len(id) == 0 {
		for _, key := range keys {
			if compareIDs(key.ID, id) > 0 {
				id = key.ID
			}
		}
	}
	return one(keys, id)
}

// byKeyID returns the key that a key_id names.
func (t *Token) byKeyID(s Session, name string) (Key, error) {
	if !strings.HasPrefix(name, uriOf(t.config.KeyLabel)+";") {
		return Key{}, invalid("key_id is of a key with another label than -key-label")
	}
	keys, err := t.usable(s)
	if err != nil {
		return Key{}, err
	}
	for _, key := range keys {
		if keyID(t.config.KeyLabel, key.ID) == name {
			return one(keys, key.ID)
		}
	}
	return one(keys, nil)
}

// one returns the key of an ID, of which there must be one.
func one(keys []Key, id []byte) (found Key, err error) {
	n := 0
	for _, key := range keys {
		if bytes.Equal(key.ID, id) {
			found = key
			n++
		}
	}
	switch n {
	case 0:
		return Key{}, fmt.Errorf("%w: of those with the label of -key-label none has this ID", ErrNoKey)
	case 1:
		return found, nil
	}
	return Key{}, unavailable("%d keys have the same label and ID, so that none can be told by it", n)
}
