// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/internal/throttle"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// The codes of both families' error objects.
const (
	codeInvalid      = "INVALID_REQUEST"
	codeUnauthorized = "UNAUTHORIZED"
	codeForbidden    = "FORBIDDEN"
	codeNotFound     = "NOT_FOUND"
	codeNoTenant     = "TENANT_NOT_FOUND"
	codeNoRotation   = "ROTATION_NOT_FOUND"
	codeMethod       = "METHOD_NOT_ALLOWED"
	codeConflict     = "ROTATION_IN_PROGRESS"
	codeRefused      = "ROTATION_NOT_POSSIBLE"
	codeTimeout      = "REQUEST_TIMEOUT"
	codeTooLarge     = "PAYLOAD_TOO_LARGE"
	codeRateLimited  = "RATE_LIMITED"
	codeInternal     = "INTERNAL_ERROR"
	codeUnavailable  = "SERVICE_UNAVAILABLE"
	codeDenied       = "KEY_PROVIDER_DENIED"
)

// problem is an error as a caller sees it, before a family's envelope is put
// around it. It is safe to show in full except for cause.
type problem struct {
	status     int
	code       string
	message    string // one of the documented texts where one fits
	reason     string // what exactly, for details
	rotationID string // the running rotation, of a conflict
	retryAfter string
	cause      error // for the log
}

func (p *problem) Error() string {
	return fmt.Sprintf("%d %s: %s", p.status, p.code, p.reason)
}

func (p *problem) Unwrap() error { return p.cause }

// credentials are what must not get into a log, whoever has put it into a text.
var credentials = regexp.MustCompile(`eyJ[A-Za-z0-9_.-]+|\b(hv)?[sbr]\.[A-Za-z0-9_-]{8,}`)

// why is for the log: which rule a refusal is by, and what Vault said of it. A
// malformed request is left out, since its reason may quote it.
func (p *problem) why() string {
	if p.status < 401 || p.status >= 500 || p.status == http.StatusConflict {
		return ""
	}
	if p.cause == nil || p.status == http.StatusNotFound {
		return p.reason
	}
	return bounded(credentials.ReplaceAllString(p.reason+": "+p.cause.Error(), "<credential>"))
}

func invalid(format string, args ...any) *problem {
	return &problem{
		status: http.StatusBadRequest, code: codeInvalid,
		message: "Invalid request body", reason: fmt.Sprintf(format, args...),
	}
}

func unauthorized(reason string) *problem {
	return &problem{
		status: http.StatusUnauthorized, code: codeUnauthorized,
		message: "Authentication failed", reason: reason,
	}
}

func tooLarge() *problem {
	return &problem{
		status: http.StatusRequestEntityTooLarge, code: codeTooLarge,
		message: "Request body too large", reason: fmt.Sprintf("the body must not exceed %d bytes", maxBody),
	}
}

// lateBody is for a body that did not arrive in time.
func lateBody(cause error) *problem {
	return &problem{
		status: http.StatusRequestTimeout, code: codeTimeout,
		message: "Request timed out", reason: "the body did not arrive in time", cause: cause,
	}
}

func internal(cause error) *problem {
	return &problem{
		status: http.StatusInternalServerError, code: codeInternal,
		message: "Server error", reason: "Unexpected server-side error", cause: cause,
	}
}

// unavailable tells the ways in which Vault cannot be asked from each other: one
// that is busy is neither sealed nor gone, nor is one whose engine cannot serve.
func unavailable(cause error) *problem {
	p := &problem{
		status: http.StatusServiceUnavailable, code: codeUnavailable,
		message: "Service unavailable", reason: "Vault is sealed or out of reach; try again later", cause: cause,
	}
	var ve *vault.Error
	switch {
	case errors.As(cause, &ve) && ve.Hint() != "":
		p.reason = bounded(ve.Hint())
	case errors.As(cause, &ve) && ve.OfEngine():
		p.reason = "the engine cannot serve this request now; try again later"
	case errors.Is(cause, errBusy):
		p.reason, p.retryAfter = "too many callers are logging in at once; try again later", "1"
	case errors.Is(cause, vault.ErrTimeout), errors.Is(cause, context.DeadlineExceeded):
		p.reason = "Vault did not answer in time; it may be busy. Try again later"
	}
	return p
}

func forbidden(cause error) *problem {
	return &problem{
		status: http.StatusForbidden, code: codeForbidden, message: "Insufficient permissions",
		reason: "Vault's policies do not allow this request", cause: cause,
	}
}

func throttled(r *throttle.Refused) *problem {
	return &problem{
		status: http.StatusTooManyRequests, code: codeRateLimited, message: "Too many requests",
		reason: "too many logins were refused; try again later", retryAfter: strconv.Itoa(r.Seconds()), cause: r,
	}
}

// missing says what a 404 of Vault means on a route. The zero value means that
// nothing on the route can be missing, so that a 404 is a fault.
type missing struct{ code, message, reason string }

var (
	noTenant   = missing{codeNoTenant, "Tenant not found", "No tenant exists with the specified ID"}
	noRotation = missing{codeNoRotation, "Rotation not found", "The tenant has no rotation with the specified ID"}
)

// asProblem is the one place where errors of a call become answers.
func asProblem(err error, absent missing) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var ve *vault.Error
	switch {
	case errors.As(err, &ve):
		return vaultProblem(ve, absent)
	case errors.Is(err, vault.ErrUnreachable), errors.Is(err, vault.ErrTimeout), errors.Is(err, errBusy),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unavailable(err)
	default:
		return internal(err)
	}
}

// vaultProblem is the table of Vault's answers to a call of the engine.
// Vault's own texts stay inside, except the engine's word on a malformed request,
// on why a rotation that meets no other one cannot be, and on what an operator must do
// before it can serve again.
func vaultProblem(ve *vault.Error, absent missing) *problem {
	p := &problem{status: ve.Status, cause: ve}
	switch {
	case ve.InvalidToken():
		p = unauthorized(tokenRefused(ve))
	case ve.Status == http.StatusBadRequest:
		p.code, p.message, p.reason = codeInvalid, "Invalid request body", bounded(ve.Text())
	case ve.Status == http.StatusForbidden:
		return forbidden(ve)
	case ve.Status == http.StatusNotFound && !ve.NotMounted() && absent != missing{}:
		p.code, p.message, p.reason = absent.code, absent.message, absent.reason
	case ve.Status == http.StatusConflict && ve.RotationID == "":
		p.code, p.message, p.reason = codeRefused, "Rotation not possible", bounded(ve.Text())
	case ve.Status == http.StatusConflict:
		p.code, p.message, p.reason = codeConflict, "Rotation in progress", "A DEK rotation is already in progress"
		p.rotationID = ve.RotationID
	case ve.Status == http.StatusRequestEntityTooLarge:
		p.code, p.message, p.reason = codeTooLarge, "Request body too large", "Vault refused the request as too large"
	case ve.Status == http.StatusTooManyRequests:
		p.code, p.message, p.reason = codeRateLimited, "Too many requests", "try again later"
		p.retryAfter = ve.RetryAfter
	case ve.KeyProviderDenied():
		p.status, p.code = http.StatusServiceUnavailable, codeDenied
		p.message, p.reason = "Service unavailable", "the tenant's key provider refuses its key"
	case isUnavailable(ve.Status), ve.NoLeader():
		return unavailable(ve)
	default:
		return internal(ve)
	}
	p.cause = ve
	return p
}

// tokenRefused says why Vault does not take a token.
func tokenRefused(ve *vault.Error) string {
	if ve.TokenTooLarge() {
		return "Vault refuses the token as too large"
	}
	return "Vault does not know the token"
}

// loginProblem is the table of Vault's answers to a login. Vault answers 400 to
// a failed one whatever the cause, 403 or 404 where the method is not mounted
// or the user is locked out. Any other 5xx is Vault, or the keys it verifies with,
// out of reach.
func loginProblem(err error) *problem {
	var tooMany *throttle.Refused
	if errors.As(err, &tooMany) {
		return throttled(tooMany)
	}
	if errors.Is(err, errLoggedOut) {
		return unauthorized("the session has ended by a logout")
	}
	if errors.Is(err, errContradicted) {
		p := unauthorized("Vault knows the caller otherwise than the token says")
		p.cause = err
		return p
	}
	var ve *vault.Error
	if !errors.As(err, &ve) {
		return asProblem(err, missing{})
	}
	switch {
	case ve.Status == http.StatusTooManyRequests:
		return vaultProblem(ve, missing{})
	case (ve.Status >= 500 || isUnavailable(ve.Status)) && !ve.Unidentified():
		return unavailable(ve)
	default:
		p := unauthorized("Vault refused the login")
		p.cause = ve
		return p
	}
}

// isUnavailable lists the answers of a Vault that cannot serve now: 412 (a
// replica behind), 472 and 473 (replicas that do not serve), 501 (not
// initialized), 503 (sealed), and a load balancer's 502 and 504.
func isUnavailable(status int) bool {
	switch status {
	case http.StatusPreconditionFailed, 472, 473, http.StatusNotImplemented,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	default:
		return false
	}
}

// bounded keeps an upstream text from filling an answer.
func bounded(s string) string {
	const most = 500
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
