// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

// everyRoute has a path of each kind, and one that is none.
var everyRoute = []struct{ method, path string }{
	{"POST", rotatePath},
	{"GET", rotatePath + "/" + rotationID},
	{"GET", settingsPath},
	{"PATCH", settingsPath},
	{"POST", "/saas" + settingsPath},
	{"POST", loginPath},
	{"GET", "/health"},
	{"GET", "/metrics"},
	{"PUT", "/health"},
	{"POST", "/nowhere"},
	{"POST", "/saas//x"},
}

// sendRaw writes a request of its own making on a new connection and reads the
// answer; reused tells whether the connection takes a second request after it.
func sendRaw(t *testing.T, address, request string) (resp *http.Response, reused bool) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	written := make(chan struct{})
	go func() {
		defer close(written)
		// The proxy may hang up before it has taken all.
		_, _ = io.WriteString(conn, request)
	}()
	in := bufio.NewReader(conn)
	resp, err = http.ReadResponse(in, nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	if resp.Close {
		return resp, false
	}
	<-written
	_, err = io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	second, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.NoError(t, second.Body.Close())
	return resp, second.StatusCode == 200
}

func withLength(method, path string, size int) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, path, size, strings.Repeat(" ", size))
}

func chunked(method, path string, size int) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
		method, path, size, strings.Repeat(" ", size))
}

func TestLargeBodiesAreRefusedBeforeAnythingElse(t *testing.T) {
	s := newStand(t)
	server := httptest.NewServer(s)
	defer server.Close()
	address := server.Listener.Addr().String()
	for _, route := range everyRoute {
		for name, request := range map[string]func(method, path string, size int) string{"length": withLength, "chunked": chunked} {
			t.Run(route.method+" "+route.path+" "+name, func(t *testing.T) {
				resp, reused := sendRaw(t, address, request(route.method, route.path, maxBody))
				require.NotEqual(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
				require.True(t, reused)
				resp, reused = sendRaw(t, address, request(route.method, route.path, maxBody+1))
				require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode, "before 401, 404 and 405")
				require.True(t, reused)
				require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			})
		}
	}
	require.Empty(t, s.vault.Seen(vaulttest.AtLogin))
	require.Empty(t, s.vault.Seen(vaulttest.AtSelf))
}

func TestConnectionEndsAfterAVeryLargeBody(t *testing.T) {
	s := newStand(t)
	server := httptest.NewServer(s)
	defer server.Close()
	address := server.Listener.Addr().String()
	for name, request := range map[string]func(method, path string, size int) string{"length": withLength, "chunked": chunked} {
		t.Run(name, func(t *testing.T) {
			resp, reused := sendRaw(t, address, request("POST", rotatePath, maxDiscarded))
			require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
			require.True(t, reused)
			resp, reused = sendRaw(t, address, request("POST", rotatePath, maxDiscarded+1))
			require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
			require.False(t, reused)
		})
	}
	resp, reused := sendRaw(t, address, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", rotatePath, maxBody+1))
	require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode, "what is not asked for need not be sent")
	require.False(t, reused)
}

// slowBody fails as a connection does whose read deadline has passed.
type slowBody struct{ io.Reader }

func (b slowBody) Read(p []byte) (int, error) {
	if n, err := b.Reader.Read(p); err == nil {
		return n, nil
	}
	return 0, &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
}

func TestBodyThatDoesNotArriveInTime(t *testing.T) {
	s := newStand(t)
	late := func(length int) edit {
		return func(r *http.Request) { r.Body = io.NopCloser(slowBody{strings.NewReader(strings.Repeat(" ", length))}) }
	}
	requireAdminError(t, s.rotate(late(10)), http.StatusRequestTimeout, "REQUEST_TIMEOUT")
	requirePublicError(t, s.change(late(10)), http.StatusRequestTimeout, "REQUEST_TIMEOUT")
	w := s.rotate(late(maxBody + 1))
	requireAdminError(t, w, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
	require.Equal(t, "close", w.Header().Get("Connection"))
	require.Empty(t, s.vault.Calls())
}

// TestSlowLargeBodiesHoldNobodyUp fills every place of those whose bodies are
// thrown away.
func TestSlowLargeBodiesHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := make(discards, 1)
		d <- struct{}{}
		r := httptest.NewRequest("POST", "/", strings.NewReader("x"))
		require.False(t, d.discard(httptest.NewRecorder(), r, 10), "after a while the connection is closed")
		<-d
		require.True(t, d.discard(httptest.NewRecorder(), r, 10))
		require.Empty(t, d)
	})
}

func TestBodyThatBreaksOff(t *testing.T) {
	s := newStand(t)
	broken := func(r *http.Request) {
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"tenantId": "`+tenantID+`"}`), failingReader{io.ErrUnexpectedEOF}))
	}
	requireAdminError(t, s.rotate(broken), http.StatusBadRequest, "INVALID_REQUEST")
	require.Empty(t, s.vault.Seen(vaulttest.AtRotate))
}
