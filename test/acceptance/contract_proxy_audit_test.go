// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// TestContractProxyAuditBlocks: while no audit device can be written Vault fails every
// request, and its own health is silent about it.
func TestContractProxyAuditBlocks(t *testing.T) {
	s := start(t, devstack.Options{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	conns := make(chan net.Conn, 10)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns <- conn
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	a := callRoot(t, s, http.MethodPut, "sys/audit/socket", map[string]any{
		"type": "socket", "options": map[string]string{"address": listener.Addr().String(), "socket_type": "tcp"},
	})
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
	require.Equal(t, http.StatusOK, callProxy(t, s, http.MethodGet, "/health", nil).Status)

	require.NoError(t, listener.Close())
	for len(conns) > 0 {
		require.NoError(t, (<-conns).Close())
	}
	require.Eventually(t, func() bool {
		return callProxy(t, s, http.MethodGet, "/health", nil).Status == http.StatusServiceUnavailable
	}, time.Minute, 200*time.Millisecond)
	assert.Equal(t, http.StatusOK, call(t, s, http.MethodGet, "sys/health", "", nil).Status, "Vault's own says nothing")
	a = callProxy(t, s, http.MethodGet, "/api/v1/admin/health", nil)
	assert.Equal(t, http.StatusServiceUnavailable, a.Status)
	state, _ := a.Body["vault"].(map[string]any)
	assert.Equal(t, false, state["sealed"])
	assert.Equal(t, false, state["serving"])
	session := callProxy(t, s, http.MethodGet, settingsPaths[0], nil, "INFA-SESSION-ID", s.RootToken())
	publicError(t, session, http.StatusInternalServerError)
}
