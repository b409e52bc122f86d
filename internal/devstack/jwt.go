// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
)

const (
	jwtIssuer   = "https://devstack.invalid"
	jwtAudience = "vault-plugin-dek"
)

// Claims describes a JWT. Empty fields take defaults that make it valid.
type Claims struct {
	Subject  string // default: a random UUID. Unique per person and tenant
	Name     string
	Email    string
	TenantID string   // left out if empty
	Roles    []string // always in the token, [] if nil
	// IssuedAt defaults to now, Lifetime to an hour.
	IssuedAt time.Time
	Lifetime time.Duration
	// Extra are further claims. One of the names above replaces that claim.
	Extra map[string]any
}

// signer holds the key pair that stands for the issuer of JWTs.
type signer struct {
	key    *ecdsa.PrivateKey
	signer jose.Signer
}

// loadSigner reads the key pair, so that JWTs made before a restart still work,
// or makes one.
func loadSigner(path string) (*signer, error) {
	key, err := readKey(path)
	if errors.Is(err, os.ErrNotExist) {
		key, err = makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("key pair for JWTs: %w", err)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("key pair for JWTs: %w", err)
	}
	return &signer{key: key, signer: s}, nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(path) // #nosec G304 -- in the data directory
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM block", path)
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

func makeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

func (s *signer) publicPEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// MintJWT signs a JWT that Vault's JWT auth method accepts, unless the claims
// say that it has expired.
func (s *Stack) MintJWT(c Claims) (string, error) {
	if c.Subject == "" {
		c.Subject = uuid.NewString()
	}
	if c.IssuedAt.IsZero() {
		c.IssuedAt = time.Now()
	}
	if c.Lifetime == 0 {
		c.Lifetime = time.Hour
	}
	if c.Roles == nil {
		c.Roles = []string{}
	}
	standard := jwt.Claims{
		Issuer:    jwtIssuer,
		Audience:  jwt.Audience{jwtAudience},
		Subject:   c.Subject,
		IssuedAt:  jwt.NewNumericDate(c.IssuedAt),
		NotBefore: jwt.NewNumericDate(c.IssuedAt),
		Expiry:    jwt.NewNumericDate(c.IssuedAt.Add(c.Lifetime)),
	}
	own := map[string]any{"name": c.Name, "email": c.Email, "roles": c.Roles}
	if c.TenantID != "" {
		own["tenant_id"] = c.TenantID
	}
	maps.Copy(own, c.Extra)
	token, err := jwt.Signed(s.signer.signer).Claims(standard).Claims(own).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign a JWT: %w", err)
	}
	return token, nil
}

// Login exchanges a JWT for a Vault token, as the proxy does.
func (s *Stack) Login(ctx context.Context, token string) (string, error) {
	secret, err := s.newClient("").Logical().WriteWithContext(ctx, "auth/"+JWTMount+"/login",
		map[string]any{"role": JWTRole, "jwt": token})
	if err != nil {
		return "", fmt.Errorf("log in with a JWT: %w", err)
	}
	return secret.Auth.ClientToken, nil
}
