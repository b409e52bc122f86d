// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// patience is how long a command goes on trying while Vault or a database does not
// answer: a failover, a restart.
const patience = 2 * time.Minute

// errInterrupted ends a command that a signal stopped.
var errInterrupted = errors.New("interrupted")

// lasting calls f until it succeeds. A failure that passes reports to be one that ends by
// itself is waited out, for as long as limit.
func (a *app) lasting(ctx context.Context, limit time.Duration, passes func(error) bool, f func() error) error {
	began := time.Now()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if err := a.outlast(ctx, err, began, limit, passes); err != nil {
			return err
		}
	}
}

// outlast waits a second after a failure that passes. It gives the failure back if it is
// another, or if nothing has moved for longer than limit.
func (a *app) outlast(ctx context.Context, err error, moved time.Time, limit time.Duration, passes func(error) bool) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	if !passes(err) || time.Since(moved) > limit {
		return err
	}
	a.sayWaiting(err)
	if !sleep(ctx, time.Second) {
		return errInterrupted
	}
	return nil
}

// sayWaiting says what is waited for, not once for everything that waits for it.
func (a *app) sayWaiting(err error) {
	now := time.Now().UnixNano()
	last := a.waitingSaid.Load()
	if now-last >= int64(time.Second) && a.waitingSaid.CompareAndSwap(last, now) {
		a.say("dek: %s; waiting", err)
	}
}

// mayPass reports whether the failure is one that a failover or a restart ends.
func mayPass(err error) bool {
	if isRefusedTLS(err) {
		return false
	}
	var answered *client.Error
	if errors.As(err, &answered) {
		return passingStatus(answered.Status)
	}
	var other *api.ResponseError // of the source of an import
	if errors.As(err, &other) {
		return passingStatus(other.StatusCode)
	}
	var failed *client.TransportError
	var unreached *url.Error
	return errors.As(err, &failed) || errors.As(err, &unreached)
}

// isRefusedTLS reports whether one side refuses the other's certificate, or does not speak
// TLS: settings are wrong, and waiting does not mend them.
func isRefusedTLS(err error) bool {
	var certificate *tls.CertificateVerificationError
	var alert *net.OpError
	return errors.As(err, &certificate) || errors.Is(err, http.ErrSchemeMismatch) ||
		errors.As(err, &alert) && alert.Op == "remote error" && refusing.MatchString(alert.Err.Error())
}

// refusing are the alerts of TLS by which a server refuses a client for good. Others, such as
// internal_error, come from one that restarts, too. crypto/tls has no type for them.
var refusing = regexp.MustCompile("certificate|handshake failure|protocol version|insufficient security|access denied")

func passingStatus(status int) bool {
	return status == http.StatusPreconditionFailed || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
