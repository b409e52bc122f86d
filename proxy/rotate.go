// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"net/http"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// counts, person and the rotation forms below are the documents' field names;
// the engine has its own.
type counts struct {
	Credentials int64 `json:"credentials"`
	APIKeys     int64 `json:"apiKeys"`
	Secrets     int64 `json:"secrets"`
}

type person struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// rotationStarted is the data of a started rotation, exactly as documented.
type rotationStarted struct {
	RotationID          string `json:"rotationId"`
	TenantID            string `json:"tenantId"`
	Status              string `json:"status"`
	PreviousKeyID       string `json:"previousKeyId"`
	NewKeyID            string `json:"newKeyId"`
	StartedAt           *stamp `json:"startedAt"`
	EstimatedCompletion *stamp `json:"estimatedCompletion"`
	ItemsToRotate       counts `json:"itemsToRotate"`
	InitiatedBy         person `json:"initiatedBy"`
}

// rotationStatus adds what is known later.
type rotationStatus struct {
	rotationStarted
	CompletedAt  *stamp  `json:"completedAt"`
	ItemsRotated counts  `json:"itemsRotated"`
	ItemsFailed  int64   `json:"itemsFailed"`
	Percent      float64 `json:"percent"`
}

func started(r vault.Rotation) rotationStarted {
	return rotationStarted{
		RotationID: r.RotationID, TenantID: r.TenantID, Status: r.Status,
		PreviousKeyID: r.PreviousKeyID, NewKeyID: r.NewKeyID,
		StartedAt: optional(r.StartedAt), EstimatedCompletion: optional(r.EstimatedCompletion),
		ItemsToRotate: counts(r.ItemsToRotate), InitiatedBy: person(r.InitiatedBy),
	}
}

// startRotation is POST /api/v1/admin/dek/rotate. The order of its checks is
// part of the contract: who is asking, then what, then whether they may.
func (p *Proxy) startRotation(w http.ResponseWriter, r *http.Request) error {
	caller, err := p.authenticate(r)
	if err != nil {
		return err
	}
	tenantID, prob := rotateRequest(r)
	if prob != nil {
		return prob
	}
	var rotation vault.Rotation
	err = p.call(r.Context(), caller, func(ctx context.Context, token string) error {
		var err error
		rotation, err = p.rotate(ctx, caller.realm.vault, token, tenantID)
		return err
	})
	if err != nil {
		return asProblem(err, noTenant)
	}
	return p.succeed(w, "DEK rotation initiated successfully", started(rotation))
}

// rotateRequest checks headers and body, which must name the same tenant.
func rotateRequest(r *http.Request) (string, *problem) {
	if prob := requireJSON(r.Header); prob != nil {
		return "", prob
	}
	header, prob := tenantHeader(r.Header)
	if prob != nil {
		return "", prob
	}
	exchangeOf(r.Context()).tenant = header
	object, prob := readObject(r)
	if prob != nil {
		return "", prob
	}
	field, prob := stringField(object, "tenantId")
	if prob != nil {
		return "", prob
	}
	tenantID, ok := parseUUID(field)
	if !ok {
		return "", invalid("tenantId must be a UUID such as 3fa85f64-5717-4562-b3fc-2c963f66afa6")
	}
	if tenantID != header {
		return "", invalid("tenantId and the x-tenantid header must name the same tenant")
	}
	return tenantID, nil
}

// rotate makes the one write that may be repeated: under its idempotency key a
// second try gets back the rotation that a first one may have started.
func (p *Proxy) rotate(ctx context.Context, v Vault, token, tenantID string) (vault.Rotation, error) {
	key := newID()
	rotation, err := v.Rotate(ctx, token, tenantID, key)
	if err == nil || !vault.Repeatable(err) {
		return rotation, err
	}
	p.log.Warn("rotate is tried again", "request_id", exchangeOf(ctx).id, "tenant_id", tenantID, "error", err)
	if wait(ctx, p.retryWait) != nil {
		return vault.Rotation{}, err
	}
	return v.Rotate(ctx, token, tenantID, key)
}

// getRotation is GET /api/v1/admin/dek/rotate/{rotationId}.
func (p *Proxy) getRotation(w http.ResponseWriter, r *http.Request) error {
	caller, err := p.authenticate(r)
	if err != nil {
		return err
	}
	tenantID, prob := tenantHeader(r.Header)
	if prob != nil {
		return prob
	}
	exchangeOf(r.Context()).tenant = tenantID
	rotationID := strings.ToLower(r.PathValue("rotationId"))
	if !rotationForm.MatchString(rotationID) {
		prob := invalid("the rotation ID must be rot- and a UUID")
		prob.message = "Invalid rotation ID"
		return prob
	}
	var rotation vault.Rotation
	err = p.call(r.Context(), caller, func(ctx context.Context, token string) error {
		var err error
		rotation, err = caller.realm.vault.Rotation(ctx, token, tenantID, rotationID)
		return err
	})
	if err != nil {
		return asProblem(err, noRotation)
	}
	return p.succeed(w, "DEK rotation status retrieved successfully", rotationStatus{
		rotationStarted: started(rotation), CompletedAt: optional(rotation.CompletedAt),
		ItemsRotated: counts(rotation.ItemsRotated), ItemsFailed: rotation.ItemsFailed, Percent: rotation.Percent,
	})
}

// succeed answers in the first family's envelope.
func (p *Proxy) succeed(w http.ResponseWriter, message string, data any) error {
	return writeJSON(w, http.StatusOK, adminEnvelope{
		Success: true, Message: message, Data: data, Timestamp: stamp(p.now()),
	})
}
