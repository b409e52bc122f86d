// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package clienttest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

var (
	errOpen      = errors.New("ciphertext does not open: it was changed, or belongs to something else")
	errMalformed = errors.New("ciphertext is malformed")
)

// answer is what Vault answers with these data.
func answer(w http.ResponseWriter, data any) { write(w, http.StatusOK, map[string]any{"data": data}) }

func refuse(w http.ResponseWriter, status int, message string) {
	write(w, status, map[string]any{"errors": []string{message}})
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // into a recorder or a connection of a test
}

func (e *Engine) serveDataKey(w http.ResponseWriter, t *tenant, inClear bool, body map[string]any) {
	key := newKey()
	ad, err := field(body, "associated_data")
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	data := map[string]any{"ciphertext": t.seal(key, ad), "key_version": t.current}
	if inClear {
		data["plaintext"] = key
	}
	if e.lease != nil {
		data["lease"] = *e.lease
	}
	answer(w, data)
}

// serveBatch does encrypt, decrypt or rewrap for batch_input, which is all that
// the client sends.
func (e *Engine) serveBatch(w http.ResponseWriter, t *tenant, op string, body map[string]any) {
	entries, _ := body["batch_input"].([]any)
	results := make([]map[string]any, len(entries))
	failed := 0
	for i, raw := range entries {
		entry, _ := raw.(map[string]any)
		result, err := t.entry(op, entry)
		if err != nil {
			result = map[string]any{"error": err.Error()}
			failed++
		} else if op == "decrypt" && e.lease != nil && isDataKey(entry) {
			result["lease"] = *e.lease
		}
		results[i] = result
	}
	data := map[string]any{"batch_results": results}
	if failed == len(results) {
		write(w, http.StatusBadRequest, map[string]any{"data": data})
		return
	}
	answer(w, data)
}

// isDataKey reports whether the plaintext of an entry is a key for envelopes or a file.
func isDataKey(entry map[string]any) bool {
	ad, err := field(entry, "associated_data")
	return err == nil && slices.Contains([]string{"vault-plugin-dek/data-key/v1", "vault-plugin-dek/file-key/v1"}, string(ad))
}

func (t *tenant) entry(op string, entry map[string]any) (map[string]any, error) {
	ad, err := field(entry, "associated_data")
	if err != nil {
		return nil, err
	}
	var plaintext []byte
	if op == "encrypt" {
		if plaintext, err = field(entry, "plaintext"); err != nil {
			return nil, err
		}
	} else {
		text, _ := entry["ciphertext"].(string)
		if plaintext, err = t.open(text, ad); err != nil {
			return nil, err
		}
	}
	if op == "decrypt" {
		return map[string]any{"plaintext": plaintext}, nil
	}
	return map[string]any{"ciphertext": t.seal(plaintext, ad), "key_version": t.current}, nil
}

func field(from map[string]any, name string) ([]byte, error) {
	text, _ := from[name].(string)
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%s must be base64", name)
	}
	return b, nil
}

func (t *tenant) seal(plaintext, ad []byte) string {
	nonce := make([]byte, 12)
	_, _ = rand.Read(nonce) // never fails
	sealed := gcm(t.keys[t.current]).Seal(nonce, nonce, plaintext, ad)
	return fmt.Sprintf("dek:v%d:%s", t.current, base64.StdEncoding.EncodeToString(sealed))
}

func (t *tenant) open(text string, ad []byte) ([]byte, error) {
	rest, prefixed := strings.CutPrefix(text, "dek:v")
	number, encoded, parted := strings.Cut(rest, ":")
	version, err := strconv.Atoi(number)
	if !prefixed || !parted || err != nil {
		return nil, errMalformed
	}
	key := t.keys[version]
	if key == nil {
		return nil, fmt.Errorf("ciphertext is of version %d, which was destroyed", version)
	}
	sealed, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(sealed) < 12 {
		return nil, errMalformed
	}
	plaintext, err := gcm(key).Open(nil, sealed[:12], sealed[12:], ad)
	if err != nil {
		return nil, errOpen
	}
	return plaintext, nil
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // of 32 bytes always
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // an AES block always has one
	}
	return aead
}
