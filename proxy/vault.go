// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Vault is what the proxy needs of a Vault server. Each call is made with the
// caller's token and bounded by a timeout of its own. Errors are a *VaultError
// where Vault answered, and wrap ErrUnreachable or ErrTimeout where it did not.
type Vault interface {
	// Login exchanges a JWT at the realm's auth mount.
	Login(ctx context.Context, realm Realm, jwt string) (Token, error)
	// LoginUser checks a password at the userpass auth mount.
	LoginUser(ctx context.Context, username, password string) (User, error)
	// CheckToken returns an error that tells whether Vault knows the token.
	CheckToken(ctx context.Context, token string) error
	// Rotate starts a rotation. The same key gets the same rotation back.
	Rotate(ctx context.Context, token, tenantID, idempotencyKey string) (Rotation, error)
	// Rotation reads one rotation of a tenant.
	Rotation(ctx context.Context, token, tenantID, rotationID string) (Rotation, error)
	// Settings reads the organization's rotation settings.
	Settings(ctx context.Context, token string) (Settings, error)
	// SetSettings changes the rotation interval and returns the new settings.
	SetSettings(ctx context.Context, token, interval string) (Settings, error)
	// Health asks for Vault's seal state, without a token.
	Health(ctx context.Context) (Health, error)
}

// Realm says where the JWTs of one authentication realm are exchanged.
type Realm struct {
	Mount string // path of the JWT auth method below auth/
	Role  string // role to log in with
}

// Token is a Vault token as a login returned it.
type Token struct {
	Value string
	// Lease is how long the token lives; zero means not to keep it.
	Lease time.Duration
}

// User is a caller that logged in with a password.
type User struct {
	Token    Token
	EntityID string
	Username string
}

// Counts holds a number for each kind of item.
type Counts struct {
	Credentials int64 `json:"credentials"`
	APIKeys     int64 `json:"api_keys"`
	Secrets     int64 `json:"secrets"`
}

// Person is who started a rotation.
type Person struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Rotation is the engine's rotation object, as far as the proxy shows it.
type Rotation struct {
	RotationID          string     `json:"rotation_id"`
	TenantID            string     `json:"tenant_id"`
	Status              string     `json:"status"`
	PreviousKeyID       string     `json:"previous_key_id"`
	NewKeyID            string     `json:"new_key_id"`
	StartedAt           *time.Time `json:"started_at"`
	CompletedAt         *time.Time `json:"completed_at"`
	EstimatedCompletion *time.Time `json:"estimated_completion"`
	ItemsToRotate       Counts     `json:"items_to_rotate"`
	ItemsRotated        Counts     `json:"items_rotated"`
	ItemsFailed         int64      `json:"items_failed"`
	Percent             float64    `json:"percent"`
	InitiatedBy         Person     `json:"initiated_by"`
}

// Settings is the organization's rotation settings.
type Settings struct {
	OrgID                  string   `json:"org_id"`
	ValidRotationIntervals []string `json:"valid_rotation_intervals"`
	RotationInterval       string   `json:"rotation_interval"`
}

// Health is what Vault says of itself.
type Health struct {
	Initialized bool
	Sealed      bool
	Standby     bool
	// DRSecondary is a replica for disaster recovery: it serves nobody.
	DRSecondary bool
	// Leaderless is a standby that knows of no active node to forward to.
	Leaderless bool
	Version    string
}

var (
	// ErrUnreachable means that no complete answer came from Vault. A write may
	// have taken effect.
	ErrUnreachable = errors.New("vault is out of reach")
	// ErrTimeout means that Vault did not answer in time. A write may have
	// taken effect.
	ErrTimeout = errors.New("vault did not answer in time")
)

// VaultError is an answer of Vault that refuses a request.
type VaultError struct {
	Status     int
	Messages   []string // cleaned for people
	RotationID string   // the running rotation that a 409 names
	RetryAfter string   // header of a 429, verbatim
}

func (e *VaultError) Error() string {
	return fmt.Sprintf("vault answered %d: %s", e.Status, e.Text())
}

// Text is Vault's message on one line.
func (e *VaultError) Text() string { return strings.Join(e.Messages, "; ") }

// InvalidToken tells a token that Vault does not know from one that its
// policies refuse: both are 403, and only the message says which. A token that
// names an unknown namespace is a 500 of the token check.
func (e *VaultError) InvalidToken() bool {
	switch e.Status {
	case http.StatusForbidden:
		return strings.Contains(e.Text(), "invalid token")
	case http.StatusInternalServerError:
		return strings.Contains(e.Text(), "look up namespace from the token")
	default:
		return false
	}
}

// NotMounted tells a missing or outdated engine from a missing tenant: both are 404.
func (e *VaultError) NotMounted() bool {
	return e.Status == http.StatusNotFound &&
		(strings.Contains(e.Text(), "no handler for route") || strings.Contains(e.Text(), "unsupported path"))
}

// NoLeader tells a cluster that has no active node at the moment, which is a 500.
func (e *VaultError) NoLeader() bool {
	return e.Status == http.StatusInternalServerError &&
		strings.Contains(e.Text(), "active cluster node not found")
}

// Unidentified tells a login whose JWT names nobody whom Vault can make an entity
// of: one with an empty subject, or with a name or email that is too long. Vault
// answers 500, and so it does each time.
func (e *VaultError) Unidentified() bool {
	return e.Status == http.StatusInternalServerError &&
		(strings.Contains(e.Text(), "invalid alias metadata") || strings.Contains(e.Text(), "missing name in alias"))
}

// isInvalidToken reports whether Vault refused a call because it does not know the token.
func isInvalidToken(err error) bool {
	var ve *VaultError
	return errors.As(err, &ve) && ve.InvalidToken()
}

// repeatable reports whether a call failed in a way that a second try may mend.
// A timeout is not one: the caller has waited long enough.
func repeatable(err error) bool {
	if errors.Is(err, ErrTimeout) {
		return false
	}
	if errors.Is(err, ErrUnreachable) {
		return true
	}
	var ve *VaultError
	if !errors.As(err, &ve) || ve.InvalidToken() {
		return false
	}
	switch ve.Status {
	case http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	default:
		return false
	}
}
