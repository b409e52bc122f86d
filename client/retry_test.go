// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The attempts of one call have one idempotency key, and two calls have two.
func TestIdempotencyKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := scripted(t, reply{err: io.ErrUnexpectedEOF}, reply{status: 200, body: `{"data":{}}`})
		for range 2 {
			_, err := tenantOf(t, c).Rotate(t.Context(), RotationRequest{})
			require.NoError(t, err)
		}
		require.Len(t, s.seen, 3)
		first := s.seen[0].body["idempotency_key"]
		assert.NotEmpty(t, first)
		assert.Equal(t, first, s.seen[1].body["idempotency_key"])
		assert.NotEqual(t, first, s.seen[2].body["idempotency_key"])
	})
}

// What an answer makes of a read and of a write that must not be made twice.
func TestRepeats(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	cases := []struct {
		name                    string
		first                   reply
		readAgain, writeAgain   bool
		unknown                 bool
		afterAtLeast, afterMost time.Duration
	}{
		{name: "refused connection", first: reply{err: dial}, readAgain: true, writeAgain: true},
		{name: "broken connection", first: reply{err: io.ErrUnexpectedEOF}, readAgain: true, unknown: true},
		{name: "400", first: reply{status: 400, body: `{"errors":["name is malformed"]}`}},
		{name: "403", first: reply{status: 403, body: `{"errors":["permission denied"]}`}},
		{name: "409", first: reply{status: 409, body: `{"errors":["cas"]}`}},
		{name: "412", first: reply{status: 412, body: `{"errors":["required index state not present"]}`}, readAgain: true, writeAgain: true},
		{
			name: "429 with a time", first: reply{status: 429, body: `{"errors":["quota"]}`, header: http.Header{"Retry-After": {"3"}}},
			readAgain: true, writeAgain: true, afterAtLeast: 3 * time.Second, afterMost: 4 * time.Second,
		},
		{name: "429 with a long time", first: reply{status: 429, body: `{"errors":["quota"]}`, header: http.Header{"Retry-After": {"60"}}}},
		{name: "500", first: reply{status: 500, body: `{"errors":["fault"]}`}, readAgain: true, unknown: true},
		{name: "502", first: reply{status: 502, body: `Bad Gateway`}, readAgain: true, unknown: true},
		{name: "503 of Vault", first: reply{status: 503, body: `{"errors":["Vault is sealed"]}`}, readAgain: true, writeAgain: true},
		{name: "503 of a proxy", first: reply{status: 503, body: `upstream reset`}, readAgain: true, unknown: true},
		{name: "501", first: reply{status: 501, body: ``}, unknown: true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, write := range []bool{false, true} {
					c, s := scripted(t, tc.first, reply{status: 200, body: `{"data":{"revision":7}}`})
					began := time.Now()
					var err error
					again := tc.readAgain
					if write {
						again = tc.writeAgain
						_, err = tenantOf(t, c).WriteItem(t.Context(), Secrets, "a", ItemWrite{})
					} else {
						_, err = tenantOf(t, c).ReadItem(t.Context(), Secrets, "a")
					}
					took := time.Since(began)
					if again {
						assert.NoError(t, err)
						assert.Len(t, s.seen, 2)
						assert.GreaterOrEqual(t, took, tc.afterAtLeast)
						if tc.afterMost > 0 {
							assert.Less(t, took, tc.afterMost)
						}
						continue
					}
					assert.Len(t, s.seen, 1)
					assert.Equal(t, tc.unknown, OutcomeUnknown(err))
				}
			})
		})
	}
}

func TestRepeatsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := scripted(t, reply{status: 503, body: `{"errors":["Vault is sealed"]}`})
		_, err := c.Status(t.Context())
		assert.ErrorIs(t, err, ErrUnavailable)
		assert.Len(t, s.seen, 1+DefaultRetries)

		s.seen = nil
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err = c.Status(ctx)
		assert.ErrorIs(t, err, ErrUnavailable, "no wait that the context would cut off")
		assert.Len(t, s.seen, 1)
	})
}
