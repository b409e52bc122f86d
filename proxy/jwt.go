// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"regexp"
	"strings"
	"time"
)

const (
	maxJWT   = 16 << 10
	maxToken = 8 << 10
)

var (
	jwtForm   = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)
	tokenForm = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	// vaultToken is what Vault's own tokens begin with. One of a namespace has
	// three parts between dots, as a JWT has.
	vaultToken = regexp.MustCompile(`^(hv)?[sbr]\.`)
)

// claims is what the proxy reads of a JWT that it has not verified: enough to
// turn garbage away and to know how long a login may be kept. Vault verifies.
type claims struct {
	expiry  time.Time // zero where the JWT has no exp
	tenant  string    // empty where the JWT has no tenant_id
	roles   []string
	payload map[string]json.RawMessage
}

// parseJWT reads a JWT without verifying it. The prefix is that of the product's roles.
func parseJWT(jwt string, now time.Time, rolePrefix string) (*claims, *problem) {
	if len(jwt) > maxJWT || !jwtForm.MatchString(jwt) {
		return nil, unauthorized("the token is not a JWT")
	}
	parts := strings.Split(jwt, ".")
	header, okHeader := decodeSegment(parts[0])
	payload, okPayload := decodeSegment(parts[1])
	if _, okSignature := base64URL(parts[2]); !okHeader || !okPayload || !okSignature || header["alg"] == nil {
		return nil, unauthorized("the token is not a JWT")
	}
	c := &claims{payload: payload}
	// Vault's policies are templated with this claim: a "+" in it would match
	// every tenant, another spelling none.
	if raw, present := payload["tenant_id"]; present {
		if json.Unmarshal(raw, &c.tenant) != nil || !uuidForm.MatchString(c.tenant) {
			return nil, unauthorized("the tenant_id claim is not a canonical UUID")
		}
	}
	var prob *problem
	if c.roles, prob = parseRoles(payload["roles"], rolePrefix); prob != nil {
		return nil, prob
	}
	expiry, ok := parseExpiry(payload["exp"])
	if !ok {
		return nil, unauthorized("the exp claim is not a time")
	}
	if !expiry.IsZero() && !now.Before(expiry) {
		return nil, unauthorized("the token has expired")
	}
	c.expiry = expiry
	return c, nil
}

// parseRoles reads the roles claim as Vault does: a list of strings, or a string, which
// is a list of one. A claim that is absent or null has no roles, and whether the caller
// may log in without is Vault's to say. The prefix is that of the product's roles.
func parseRoles(raw json.RawMessage, prefix string) ([]string, *problem) {
	if raw == nil || bytes.Equal(raw, []byte("null")) {
		return nil, nil
	}
	var claim any
	if json.Unmarshal(raw, &claim) != nil {
		return nil, unauthorized("the roles claim is neither a string nor a list of strings")
	}
	list, ok := claim.([]any)
	if !ok {
		list = []any{claim}
	}
	roles := make([]string, 0, len(list))
	for _, element := range list {
		role, ok := element.(string)
		if !ok {
			return nil, unauthorized("the roles claim is neither a string nor a list of strings")
		}
		if foldedRole(role, prefix) {
			return nil, unauthorized("the roles claim has a role in another spelling")
		}
		if role != "" { // which Vault passes over
			roles = append(roles, role)
		}
	}
	return roles, nil
}

// decodeSegment reads one part of a JWT, which must be exactly one JSON object.
func decodeSegment(segment string) (map[string]json.RawMessage, bool) {
	raw, ok := base64URL(segment)
	if !ok {
		return nil, false
	}
	var object map[string]json.RawMessage
	err := json.Unmarshal(raw, &object)
	return object, err == nil && object != nil
}

func base64URL(segment string) ([]byte, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(segment)
	return raw, err == nil
}

// parseExpiry reads a NumericDate (RFC 7519 section 2), which may have a
// fraction. An absent one is the zero time.
func parseExpiry(raw json.RawMessage) (time.Time, bool) {
	if raw == nil {
		return time.Time{}, true
	}
	var seconds float64
	if bytes.Equal(raw, []byte("null")) || json.Unmarshal(raw, &seconds) != nil {
		return time.Time{}, false
	}
	// The end of the year 9999, and the epoch: beyond them a conversion could
	// wrap around, and neither changes what is decided.
	seconds = math.Max(0, math.Min(seconds, 253402300799))
	return time.Unix(int64(seconds), 0), true
}
