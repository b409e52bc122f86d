// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package api

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/admission"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// Handler is an operation that reports errors as the engine does.
type Handler func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error)

// Operations makes the operations of paths.
type Operations struct {
	// Check refuses a request before its handler sees it.
	Check func(*logical.Request) error
	// Ready, if set, fails while nothing of the mount may be read or written.
	Ready func(context.Context) error
	// Leads reports whether this node may write, asked of Vault at this moment.
	Leads func() bool
	// Bound bounds the bytes of large writes in flight, those of a tenant of Mount, its
	// UUID, included.
	Bound *admission.Bound
	Mount string
	// Caller identifies the caller of a request, for the evidence log.
	Caller func(*logical.Request) actor.Actor
	// Named adds to an actor that a record has what is known of the person.
	Named func(context.Context, actor.Actor) actor.Actor
	// Absent, if set, returns an error if a request is about something of a tenant that there
	// is not, or that is being deleted. Operations calls it when a handler has answered 400, so
	// that the caller learns first that there is no such tenant, and then what it wrote wrong.
	Absent func(ctx context.Context, req *logical.Request, tenantID string) error
	// Unlock, if set, is given the error of a handler. It waits for what the handler needs,
	// and returns nil if the handler is to be called again. Otherwise it returns the error
	// to answer. A handler that was called before has changed what it could: a request that
	// is repeated is recognized by its ID.
	Unlock func(context.Context, error) error
	// Log returns the logger for faults.
	Log func() hclog.Logger
}

// errNoLeader is for a write that came without its fields.
var errNoLeader = Refuse(http.StatusServiceUnavailable, "no node of Vault leads at this moment, so the write was not made: try again")

// maxCalls bounds how often a handler is called for one request. It is called again once
// a key provider has opened what the handler needs.
const maxCalls = 8

// On makes an operation of a path, with its errors turned into answers. The name,
// a verb and mostly what it is done to, is the operation's in OpenAPI.
func (o *Operations) On(h Handler, name, summary string, responses map[int][]framework.Response) *framework.PathOperation {
	verb, object, _ := strings.Cut(name, " ")
	return &framework.PathOperation{
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: "dek", OperationVerb: verb, OperationSuffix: object},
		Callback: func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
			growStack()
			resp, err := o.serveOnceOpen(ctx, h, req, d)
			if err == nil {
				return resp, nil
			}
			err = o.absentOr(ctx, req, d, err)
			if len(req.Data) == 0 && isWrite(req.Operation) && !o.Leads() {
				// While there is no leader, a write that was to be forwarded may come here
				// without its body: that says nothing about its fields.
				err = errNoLeader
			}
			resp, err = Answer(err)
			if ctx.Err() != nil {
				o.Log().Debug("request given up by its caller", "operation", req.Operation, "request_id", req.ID)
			} else if _, told := err.(logical.HTTPCodedError); !told { //nolint:errorlint // answer returns it bare
				o.Log().Error("request failed", "operation", req.Operation, "request_id", req.ID, "error", err)
			}
			return resp, err
		},
		Summary:                     summary,
		Responses:                   responses,
		ForwardPerformanceStandby:   true,
		ForwardPerformanceSecondary: true,
	}
}

// absentOr returns the error of Absent if a handler answered 400 to a request and there is no
// such tenant, else the handler's own.
func (o *Operations) absentOr(ctx context.Context, req *logical.Request, d *framework.FieldData, refused error) error {
	tenantID, _ := d.Raw["tenant_id"].(string)
	if o.Absent == nil || !UUIDPattern.MatchString(tenantID) {
		return refused
	}
	var coded logical.HTTPCodedError
	if _, answer := Answer(refused); !errors.As(answer, &coded) || coded.Code() != http.StatusBadRequest {
		return refused
	}
	if err := o.Absent(ctx, req, tenantID); err != nil {
		return err
	}
	return refused
}

// serveOnceOpen is serve, and calls the handler again after a key provider has opened the
// KEK that it lacked. Between the calls nothing is held.
func (o *Operations) serveOnceOpen(ctx context.Context, h Handler, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	if err := o.Check(req); err != nil {
		return nil, err
	}
	if o.Ready != nil {
		if err := o.Ready(ctx); err != nil {
			return nil, err
		}
	}
	for range maxCalls {
		resp, err := o.serve(ctx, h, req, d)
		if err == nil || o.Unlock == nil {
			return resp, err
		}
		// Nothing is held here: no lock, and no place among what is in flight.
		if err := o.Unlock(ctx, err); err != nil {
			return nil, err
		}
	}
	return nil, storage.ErrContended
}

// serve has a request answered, if not too much is in flight and its text is UTF-8.
func (o *Operations) serve(ctx context.Context, h Handler, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	if isWrite(req.Operation) && o.Bound != nil {
		tenantID, _ := d.Raw["tenant_id"].(string)
		release, err := o.Bound.Admit(o.Mount+"/"+tenantID, sizeOf(d.Raw))
		if err != nil {
			return nil, err
		}
		defer release()
	}
	if err := CheckText(d.Raw); err != nil {
		return nil, err
	}
	return o.call(ctx, h, req, d)
}

// Answering begins an answer of a tenant's that may be large: more is told of its bytes as
// they are read, and fails with [admission.BusyError] where there is too much in flight.
func (o *Operations) Answering(tenantID string) (more func(bytes int) error, release func()) {
	if o.Bound == nil {
		return func(int) error { return nil }, func() {}
	}
	g := o.Bound.Grant(o.Mount + "/" + tenantID)
	return g.More, g.Release
}

func isWrite(op logical.Operation) bool {
	return op == logical.UpdateOperation || op == logical.CreateOperation || op == logical.PatchOperation
}

// EvidencePending is the warning of an answer whose events the evidence log lacks yet.
const EvidencePending = "evidence pending"

// call calls a handler. If that changes something, the answer waits until the evidence
// log has it, a few seconds at most.
func (o *Operations) call(ctx context.Context, h Handler, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	if req.Operation == logical.ReadOperation || req.Operation == logical.ListOperation {
		return h(ctx, req, d)
	}
	ctx, events := ledger.Begin(ctx, req.ID, func() actor.Actor { return o.Caller(req) })
	resp, err := h(ctx, req, d)
	if err != nil || events.Logged(ctx) {
		return resp, err
	}
	if resp == nil {
		resp = &logical.Response{}
	}
	resp.AddWarning(EvidencePending)
	return resp, nil
}

// growStack makes the goroutine's stack as large as most requests need it: in
// steps on the way it would be copied three times, the last with some fifty frames
// on it. That took a twelfth of the processor time of a write.
//
//go:noinline
func growStack() byte {
	var frame [16 << 10]byte
	return frame[len(os.Args)%len(frame)] // or the compiler leaves the frame out
}
