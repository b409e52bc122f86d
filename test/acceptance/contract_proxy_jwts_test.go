// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// issuerKey is the key that the stack's JWTs are signed with.
func issuerKey(t *testing.T, s *devstack.Stack) *ecdsa.PrivateKey {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.DataDir(), "jwt-key.pem"))
	require.NoError(t, err)
	block, _ := pem.Decode(data)
	require.NotNil(t, block)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	require.NoError(t, err)
	return key
}

// resigned is a JWT with some claims changed, signed with a key of choice. A
// change to absent takes the claim out.
func resigned(t *testing.T, key *ecdsa.PrivateKey, jwt string, changes map[string]any) string {
	t.Helper()
	c := claims(t, jwt)
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == absent })
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	require.NoError(t, err)
	token, err := josejwt.Signed(signer).Claims(c).Serialize()
	require.NoError(t, err)
	return token
}

type absentClaim struct{}

var absent = absentClaim{}

// badJWTs are JWTs that are not to be let in, made of a good one.
func badJWTs(t *testing.T, s *devstack.Stack, good string) map[string]string {
	t.Helper()
	key := issuerKey(t, s)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	segment := base64.RawURLEncoding.EncodeToString
	parts := strings.Split(good, ".")
	bad := map[string]string{
		"garbage":              "garbage",
		"two parts":            parts[0] + "." + parts[1],
		"no signature":         parts[0] + "." + parts[1] + ".",
		"cut off":              good[:len(good)-10],
		"signed by a stranger": resigned(t, stranger, good, nil),
		"alg none":             segment([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + ".",
		"another's signature":  parts[0] + "." + parts[1] + "." + strings.Split(resigned(t, key, good, map[string]any{"sub": "x"}), ".")[2],
		"expired":              resigned(t, key, good, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"not yet":              resigned(t, key, good, map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}),
		"another audience":     resigned(t, key, good, map[string]any{"aud": "another"}),
		"another issuer":       resigned(t, key, good, map[string]any{"iss": "https://another.invalid"}),
		"no roles claim":       resigned(t, key, good, map[string]any{"roles": absent}),
		"no sub":               resigned(t, key, good, map[string]any{"sub": absent}),
	}
	for name, id := range map[string]any{
		"+": "+", "glob": "*", "empty": "", "null": nil, "number": 5, "list": []string{uuid.NewString()},
		"upper case": strings.ToUpper(uuid.NewString()), "not a UUID": "tenant", "braces": "{" + uuid.NewString() + "}", "path": uuid.NewString() + "/x",
	} {
		bad["tenant_id is "+name] = resigned(t, key, good, map[string]any{"tenant_id": id})
	}
	return bad
}
