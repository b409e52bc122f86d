// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package api

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/deletion"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/destruction"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/dueindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/encryption"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/holders"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/witnesses"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/wrappingkey"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// refusal is an answer that the caller can do something about.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return r.message }

// Invalid refuses a request that names a field and breaks its rule.
func Invalid(format string, args ...any) error {
	return &refusal{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// Refuse answers a request with an HTTP status and a message for its caller.
func Refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// conflict is a refusal that says more than a message.
type conflict struct {
	message string
	body    map[string]any
}

func (c *conflict) Error() string { return c.message }

// Conflict answers a request with 409, a message, and what else there is to say as data.
func Conflict(message string, data map[string]any) error { return &conflict{message, data} }

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
	{destruction.ErrMinDecryption, http.StatusBadRequest, ""},
	{deletion.ErrWindow, http.StatusBadRequest, ""},
	{deletion.ErrRecordDamaged, http.StatusConflict, ""},
	{deletion.ErrKeysLeft, http.StatusServiceUnavailable, ""},
	{deletion.ErrRestored, http.StatusConflict, ""},
	{rotation.ErrBeingDeleted, http.StatusConflict, ""},
	{rotation.ErrKeyTypeFixed, http.StatusBadRequest, ""},
	{rotation.ErrProviderFixed, http.StatusBadRequest, ""},
	{item.ErrTooLarge, http.StatusRequestEntityTooLarge, ""},
	{itemstore.ErrLeftOut, http.StatusRequestEntityTooLarge, ""},
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
	{holders.ErrNotFound, http.StatusNotFound, ""},
	{holders.ErrTooMany, http.StatusConflict, ""},
	{holders.ErrReport, http.StatusBadRequest, ""},
	{dueindex.ErrAfter, http.StatusBadRequest, ""},
	{keyring.ErrKeyType, http.StatusBadRequest, ""},
	{keyring.ErrVersion, http.StatusBadRequest, ""},
	{keyring.ErrImport, http.StatusBadRequest, ""},
	{keyring.ErrHashFunction, http.StatusBadRequest, ""},
	{keyring.ErrNotWrapped, http.StatusBadRequest, ""},
	{keyring.ErrConstantKey, http.StatusBadRequest, ""},
	{wrappingkey.ErrTooMany, http.StatusConflict, ""},
	{keyring.ErrVersionDestroyed, http.StatusGone, "what is encrypted under a version of the key that was destroyed cannot be read any more"},
	{evidencelog.ErrNotFound, http.StatusNotFound, ""},
	{witnesses.ErrCosignature, http.StatusBadRequest, "cosignature must have signature lines of witnesses for a checkpoint that is kept"},
	{witnesses.ErrTooManyWitnesses, http.StatusBadRequest, "witnesses must name at most 16"},
	{witnesses.ErrWitness, http.StatusBadRequest, ""},
	{witnesses.ErrOtherLog, http.StatusBadRequest, ""},
	{evidence.ErrCheckpoint, http.StatusBadRequest, "checkpoint must be a signed note of an evidence log"},
	{evidence.ErrSignature, http.StatusBadRequest, "checkpoint is not signed by a key of this log"},
	{ledger.ErrFull, http.StatusServiceUnavailable, ""},
	{provider.ErrDenied, http.StatusFailedDependency, ""},
	{provider.ErrUnavailable, http.StatusServiceUnavailable, ""},
	{provider.ErrBusy, http.StatusServiceUnavailable, ""},
	{provider.ErrInvalid, http.StatusBadRequest, ""},
	{provider.ErrNotFound, http.StatusNotFound, "key provider not found"},
	{keystore.ErrProvider, http.StatusBadRequest, ""},
	{keystore.ErrTenantProvider, http.StatusBadRequest, ""},
	{keystore.ErrProviderInUse, http.StatusConflict, ""},
	{keystore.ErrTooManyWait, http.StatusServiceUnavailable, ""},
	{storage.ErrContended, http.StatusServiceUnavailable, ""},
	{storage.ErrNewer, http.StatusServiceUnavailable, ""},
	{keystore.ErrExhausted, http.StatusServiceUnavailable, "the tenant's key has sealed as many messages as aes256-gcm allows: rotate it, or wait until the schedule does within minutes"},
}

// errHeldReadOnly is for the operator: no request can do anything about it.
var errHeldReadOnly = Refuse(http.StatusServiceUnavailable,
	"storage cannot be written: Vault took this mount up while its plugin could not be started, or with another binary. "+
		"The active node must step down or restart; reloading the plugin does not help")

// Answer turns an error into what Vault is to answer. Over gRPC an error keeps
// its status only as a bare coded error, so nothing is wrapped here.
func Answer(err error) (*logical.Response, error) {
	if storage.HeldReadOnly(err) {
		err = errHeldReadOnly
	}
	var refused *refusal
	if errors.As(err, &refused) {
		return nil, logical.CodedError(refused.status, refused.message)
	}
	var told *conflict
	if errors.As(err, &told) {
		return ConflictBody(told.body), logical.CodedError(http.StatusConflict, told.message)
	}
	var detailed interface {
		error
		Detail() (field, value string)
	}
	if errors.As(err, &detailed) {
		field, value := detailed.Detail()
		return ConflictBody(map[string]any{field: value}), logical.CodedError(http.StatusConflict, detailed.Error())
	}
	var early interface {
		error
		RetryAfter() time.Duration
	}
	if errors.As(err, &early) {
		return retryAfter(early.RetryAfter()), logical.CodedError(http.StatusTooManyRequests, early.Error())
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return nil, logical.CodedError(s.status, messageOr(s.message, err))
		}
	}
	return nil, err // a fault: Vault answers 500
}

// retryAfter is an answer that says after how many seconds to ask again. Vault passes the
// header on if the mount's allowed_response_headers names it.
func retryAfter(wait time.Duration) *logical.Response {
	seconds := max(1, int64((wait+time.Second-1)/time.Second))
	return &logical.Response{Headers: map[string][]string{"Retry-After": {strconv.FormatInt(seconds, 10)}}}
}

// mistyped matches the beginning of the framework's answer to a value of the wrong
// type. The rest of that answer repeats the value, which may be a secret.
var mistyped = regexp.MustCompile(`^Field validation failed: error converting input for field "([^"]+)"`)

// Mistyped returns the name of the field of whose type a framework's answer
// complains, empty for any other answer.
func Mistyped(resp *logical.Response) (field string) {
	if resp == nil || !resp.IsError() {
		return ""
	}
	if match := mistyped.FindStringSubmatch(resp.Error().Error()); match != nil {
		return match[1]
	}
	return ""
}

// MistypedError says what type a field of a path takes. The path may be nil.
func MistypedError(p *framework.Path, field string) error {
	expected := "of another type"
	if p != nil && p.Fields[field] != nil {
		expected = typeName(p.Fields[field].Type)
	}
	return logical.CodedError(http.StatusBadRequest, fmt.Sprintf("%s must be %s", field, expected))
}

// typeName says what a field takes.
func typeName(t framework.FieldType) string {
	switch t {
	case framework.TypeString:
		return "a string"
	case framework.TypeInt:
		return "a whole number"
	case framework.TypeCommaIntSlice:
		return "a list of whole numbers"
	case framework.TypeBool:
		return "true or false"
	case framework.TypeDurationSecond:
		return "a duration of whole seconds, such as 24h or 86400, from 0 to 292 years"
	case framework.TypeSlice, framework.TypeStringSlice, framework.TypeCommaStringSlice:
		return "a list"
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

// ConflictBody is a body that Vault sends with a coded error.
func ConflictBody(data map[string]any) *logical.Response {
	return &logical.Response{Data: map[string]any{"data": data}}
}
