// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A side that refuses the other is not waited for. One that restarts sends alerts of TLS, too.
func TestIsRefusedTLS(t *testing.T) {
	alert := func(code uint8) error {
		return &url.Error{Op: "Get", URL: "https://example.com", Err: &net.OpError{Op: "remote error", Err: tls.AlertError(code)}}
	}
	for name, tt := range map[string]struct {
		err     error
		refused bool
	}{
		"bad certificate":         {alert(42), true},
		"unknown authority":       {alert(48), true},
		"certificate required":    {alert(116), true},
		"handshake failure":       {alert(40), true},
		"protocol version":        {alert(70), true},
		"internal error":          {alert(80), false},
		"close notify":            {alert(0), false},
		"user canceled":           {alert(90), false},
		"certificate not trusted": {fmt.Errorf("x: %w", &tls.CertificateVerificationError{Err: errors.New("x")}), true},
		"no TLS":                  {http.ErrSchemeMismatch, true},
		"refused connection":      {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, false},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tt.refused, isRefusedTLS(tt.err), tt.err) })
	}
}
