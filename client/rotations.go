// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"
)

// Rotation is a rotation of a tenant's key.
type Rotation struct {
	ID                  string         `json:"rotation_id"`
	TenantID            string         `json:"tenant_id"`
	PreviousKeyID       string         `json:"previous_key_id"`
	NewKeyID            string         `json:"new_key_id"`
	PreviousVersion     int            `json:"previous_version"`
	NewVersion          int            `json:"new_version"`
	Reason              string         `json:"reason"`
	Status              RotationStatus `json:"status"`
	StartedAt           time.Time      `json:"started_at"`
	UpdatedAt           *time.Time     `json:"updated_at"`
	CompletedAt         *time.Time     `json:"completed_at"`         // nil: it has not ended
	EstimatedCompletion *time.Time     `json:"estimated_completion"` // nil: it has ended
	ItemsToRotate       map[string]int `json:"items_to_rotate"`
	ItemsRotated        map[string]int `json:"items_rotated"`
	ItemsFailed         int            `json:"items_failed"`
	Failures            []PageFailure  `json:"failures"` // the first 100
	Percent             float64        `json:"percent"`
	ItemsPerSecond      float64        `json:"items_per_second"`
	InitiatedBy         Person         `json:"initiated_by"`
	Trigger             string         `json:"trigger"`     // manual, requested or scheduled
	WaitingFor          string         `json:"waiting_for"` // the key provider that it waits for
}

// PageFailure is a page that did not open.
type PageFailure struct {
	Page   string `json:"page"`
	Reason string `json:"reason"`
}

// Person is who asked for something.
type Person struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// RotationStatus is how far a rotation is.
type RotationStatus string

// Statuses of a rotation; the last three are ends.
const (
	InProgress  RotationStatus = "in_progress"
	Paused      RotationStatus = "paused"
	RollingBack RotationStatus = "rolling_back"
	Completed   RotationStatus = "completed"
	RolledBack  RotationStatus = "rolled_back"
	Failed      RotationStatus = "failed"
)

// Ended reports whether a rotation with this status is over.
func (s RotationStatus) Ended() bool { return s == Completed || s == RolledBack || s == Failed }

// RotationRequest asks for a rotation.
type RotationRequest struct {
	Reason  string `json:"reason,omitempty"`
	KeyType string `json:"key_type,omitempty"` // empty: as the active version's
	// IdempotencyKey gets the same rotation back for the same key. Empty: a new
	// one for each call, which all of its attempts share.
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// Rotate starts a rotation. While another is unfinished it fails with
// [ErrConflict], and [Error.RotationID] names that one.
func (t *Tenant) Rotate(ctx context.Context, r RotationRequest) (*Rotation, error) {
	if r.IdempotencyKey == "" {
		r.IdempotencyKey = rand.Text()
	}
	return t.rotation(ctx, call{op: "rotate key", method: http.MethodPut, path: t.path("/dek/rotate"), body: r})
}

// ImportRequest is a rotation to a key that its owner has made.
type ImportRequest struct {
	Ciphertext   string `json:"ciphertext"`              // base64, wrapped under [Client.WrappingKey]
	HashFunction string `json:"hash_function,omitempty"` // of RSA-OAEP; empty: SHA256
	RotationRequest
}

// Import starts a rotation to an imported key. It is repeated as Rotate is.
func (t *Tenant) Import(ctx context.Context, r ImportRequest) (*Rotation, error) {
	if r.IdempotencyKey == "" {
		r.IdempotencyKey = rand.Text()
	}
	return t.rotation(ctx, call{op: "import key", method: http.MethodPut, path: t.path("/dek/import"), body: r})
}

// Rotations lists the IDs of the tenant's rotations, newest first.
func (t *Tenant) Rotations(ctx context.Context, p Page) ([]string, error) {
	return t.c.list(ctx, "list rotations", t.path("/dek/rotations"), p)
}

// Rotation reads how far a rotation is, or how it ended.
func (t *Tenant) Rotation(ctx context.Context, id string) (*Rotation, error) {
	return t.rotationAt(ctx, "read rotation", http.MethodGet, id, "")
}

// PauseRotation pauses a rotation. Like ResumeRotation, CancelRotation and RetryRotation
// it may be repeated: an action that holds already changes nothing.
func (t *Tenant) PauseRotation(ctx context.Context, id string) (*Rotation, error) {
	return t.rotationAt(ctx, "pause rotation", http.MethodPut, id, "/pause")
}

// ResumeRotation goes on with a paused rotation.
func (t *Tenant) ResumeRotation(ctx context.Context, id string) (*Rotation, error) {
	return t.rotationAt(ctx, "resume rotation", http.MethodPut, id, "/resume")
}

// CancelRotation rolls a rotation back.
func (t *Tenant) CancelRotation(ctx context.Context, id string) (*Rotation, error) {
	return t.rotationAt(ctx, "cancel rotation", http.MethodPut, id, "/cancel")
}

// RetryRotation goes on with the latest rotation, if it failed.
func (t *Tenant) RetryRotation(ctx context.Context, id string) (*Rotation, error) {
	return t.rotationAt(ctx, "retry rotation", http.MethodPut, id, "/retry")
}

func (t *Tenant) rotationAt(ctx context.Context, op, method, id, action string) (*Rotation, error) {
	if !rotationPattern.MatchString(id) {
		return nil, ErrRotationID
	}
	return t.rotation(ctx, call{op: op, method: method, path: t.path("/dek/rotations/" + id + action)})
}

func (t *Tenant) rotation(ctx context.Context, what call) (*Rotation, error) {
	r := new(Rotation)
	return orNil(r, t.c.do(ctx, what, r))
}

// WaitRotation reads a rotation each interval until it has ended, and tells each
// reading to progress, unless that is nil. A failure to read it ends the wait.
func (t *Tenant) WaitRotation(ctx context.Context, id string, interval time.Duration, progress func(*Rotation)) (*Rotation, error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		r, err := t.Rotation(ctx, id)
		if err != nil {
			return nil, err
		}
		if progress != nil {
			progress(r)
		}
		if r.Status.Ended() {
			return r, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// RotationSummary is how a rotation stands, as the history tells it.
type RotationSummary struct {
	ID          string         `json:"rotation_id"`
	StartedAt   time.Time      `json:"started_at"`
	Status      RotationStatus `json:"status"`
	Trigger     string         `json:"trigger"` // manual, requested or scheduled
	InitiatedBy Person         `json:"initiated_by"`
}

// History lists how the tenant's rotations stand, newest first.
func (t *Tenant) History(ctx context.Context, p Page) ([]RotationSummary, error) {
	keys, info, err := listInfo[RotationSummary](ctx, t.c, "list rotations", t.path("/dek/rotations"), p)
	if err != nil {
		return nil, err
	}
	all := make([]RotationSummary, len(keys))
	for i, id := range keys {
		all[i] = info[id]
		all[i].ID = id
	}
	return all, nil
}
