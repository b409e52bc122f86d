// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/deletion"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/encryption"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// refusal is an answer that the caller can do something about.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return r.message }

// invalid refuses a request that names a field and breaks its rule.
func invalid(format string, args ...any) error {
	return &refusal{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// statuses is the one table from what the engine reports to what HTTP says. A
// message that is empty is the error's own.
var statuses = []struct {
	err     error
	status  int
	message string
}{
	{tenant.ErrNotFound, http.StatusNotFound, "tenant not found"},
	{tenant.ErrDeleting, http.StatusNotFound, "tenant is being deleted: write to its restore path to bring it back"},
	{item.ErrNotFound, http.StatusNotFound, "item not found"},
	{rotation.ErrNotFound, http.StatusNotFound, "rotation not found"},
	{keystore.ErrNoKEK, http.StatusNotFound, ""},
	{rotation.ErrNoRoom, http.StatusConflict, ""},
	{rotation.ErrState, http.StatusConflict, ""},
	{rotation.ErrMinDecryption, http.StatusBadRequest, ""},
	{deletion.ErrWindow, http.StatusBadRequest, ""},
	{rotation.ErrBeingDeleted, http.StatusConflict, ""},
	{rotation.ErrKeyTypeFixed, http.StatusBadRequest, ""},
	{item.ErrTooLarge, http.StatusRequestEntityTooLarge, ""},
	{item.ErrRevision, http.StatusConflict, ""},
	{encryption.ErrMalformed, http.StatusBadRequest, ""},
	{encryption.ErrDoesNotOpen, http.StatusBadRequest, ""},
	{encryption.ErrVersionDestroyed, http.StatusBadRequest, ""},
	{encryption.ErrUnknownVersion, http.StatusBadRequest, ""},
	{encryption.ErrBelowMinimum, http.StatusBadRequest, ""},
	{encryption.ErrFirstLine, http.StatusBadRequest, ""},
	{encryption.ErrFirstLineAD, http.StatusBadRequest, ""},
	{encryption.ErrReserved, http.StatusBadRequest, ""},
	{encryption.ErrDataKeySize, http.StatusBadRequest, ""},
	{encryption.ErrTooLong, http.StatusRequestEntityTooLarge, ""},
	{keyring.ErrKeyType, http.StatusBadRequest, ""},
	{keyring.ErrVersion, http.StatusBadRequest, ""},
	{keyring.ErrImport, http.StatusBadRequest, ""},
	{keyring.ErrHashFunction, http.StatusBadRequest, ""},
	{keyring.ErrNotWrapped, http.StatusBadRequest, ""},
	{keyring.ErrVersionDestroyed, http.StatusGone, "what is encrypted under a version of the key that was destroyed cannot be read any more"},
	{storage.ErrContended, http.StatusServiceUnavailable, ""},
	{keystore.ErrExhausted, http.StatusServiceUnavailable, "the tenant's key has sealed as many messages as aes256-gcm allows: rotate it, or wait until the schedule does within minutes"},
}

// answer turns an error into what Vault is to answer. Over gRPC an error keeps
// its status only as a bare coded error, so nothing is wrapped here.
func answer(err error) (*logical.Response, error) {
	var refused *refusal
	if errors.As(err, &refused) {
		return nil, logical.CodedError(refused.status, refused.message)
	}
	var detailed interface {
		error
		Detail() (field, value string)
	}
	if errors.As(err, &detailed) {
		field, value := detailed.Detail()
		return conflictBody(map[string]any{field: value}), logical.CodedError(http.StatusConflict, detailed.Error())
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return nil, logical.CodedError(s.status, messageOr(s.message, err))
		}
	}
	return nil, err // a fault: Vault answers 500
}

// mistyped matches the beginning of the framework's answer to a value of the wrong
// type. The rest of that answer repeats the value, which may be a secret.
var mistyped = regexp.MustCompile(`^Field validation failed: error converting input for field "([^"]+)"`)

// HandleRequest is the framework's, except that it answers a value of the wrong type
// without repeating it.
func (b *backend) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	resp, err := b.Backend.HandleRequest(ctx, req)
	if err != nil || resp == nil || !resp.IsError() {
		return resp, err
	}
	field := mistyped.FindStringSubmatch(resp.Error().Error())
	if field == nil {
		return resp, nil
	}
	expected := "of another type"
	if p := b.Route(req.Path); p != nil && p.Fields[field[1]] != nil {
		expected = typeName(p.Fields[field[1]].Type)
	}
	return nil, logical.CodedError(http.StatusBadRequest, fmt.Sprintf("%s must be %s", field[1], expected))
}

// typeName says what a field takes.
func typeName(t framework.FieldType) string {
	switch t {
	case framework.TypeString:
		return "a string"
	case framework.TypeInt:
		return "a whole number"
	case framework.TypeBool:
		return "true or false"
	case framework.TypeDurationSecond:
		return "a duration, such as 24h or a whole number of seconds, and not below 0"
	case framework.TypeMap:
		// The command sends name=value as a string, which is what one tries first.
		return "an object; the vault command takes one from standard input (-) or from a file (@item.json)"
	default:
		return "of type " + t.String()
	}
}

func messageOr(message string, err error) string {
	if message != "" {
		return message
	}
	return err.Error()
}

// conflictBody is a body that Vault sends with a coded error.
func conflictBody(data map[string]any) *logical.Response {
	return &logical.Response{Data: map[string]any{"data": data}}
}
