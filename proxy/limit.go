// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"runtime"
	"time"
)

const (
	// maxBody is the longest body that is taken, in bytes. A documented request
	// has a hundred.
	maxBody = 16 << 10
	// maxDiscarded is how much of a longer body is read and thrown away, in bytes,
	// so that its sender gets to read the answer and may use the connection again.
	// After that the connection is closed.
	maxDiscarded = 1 << 20
	// discardWait is how long a body waits for its turn to be thrown away, and
	// discardTime how long that may take. Then the connection is closed.
	discardWait = 2 * time.Second
	discardTime = 5 * time.Second
)

// discards bounds how many bodies are thrown away at once. The others wait in the
// network, and do not compete with requests for the processor.
type discards chan struct{}

func newDiscards() discards { return make(discards, 2*runtime.GOMAXPROCS(0)) }

// takeBody replaces the request's body by one in memory of at most maxBody bytes.
// It runs before a caller is authenticated and before anything is parsed, on every
// route: what a stranger can make the proxy hold is bounded by it. A body that
// fails to arrive for a reason other than time keeps its error for the reader.
func (p *Proxy) takeBody(w http.ResponseWriter, r *http.Request) *problem {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if r.ContentLength > maxBody {
		return p.refuseBody(w, r, 0)
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return lateBody(err)
	case len(raw) > maxBody:
		return p.refuseBody(w, r, int64(len(raw)))
	case err != nil:
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(raw), failingReader{err}))
	default:
		r.Body = io.NopCloser(bytes.NewReader(raw))
	}
	return nil
}

// refuseBody refuses a body of which so many bytes are taken. It closes the
// connection unless the rest is worth reading past, and arrives soon.
func (p *Proxy) refuseBody(w http.ResponseWriter, r *http.Request, taken int64) *problem {
	if !p.discards.discard(w, r, maxDiscarded-taken) {
		w.Header().Set("Connection", "close")
	}
	return tooLarge()
}

// discard reads the rest of a body, and reports whether it had at most so many
// bytes. One that is longer is read up to there: its sender is more likely to read
// the answer. A caller that waits for a "100 Continue" has not sent the body, and
// need not.
func (d discards) discard(w http.ResponseWriter, r *http.Request, most int64) bool {
	if r.Header.Get("Expect") != "" {
		return false
	}
	wait := time.NewTimer(discardWait)
	defer wait.Stop()
	select {
	case d <- struct{}{}:
		defer func() { <-d }()
	case <-wait.C:
		return false
	case <-r.Context().Done():
		return false
	}
	// Where there is no connection, there is nothing to wait for either.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(discardTime))
	_, err := io.CopyN(io.Discard, r.Body, most+1)
	return errors.Is(err, io.EOF)
}

// failingReader gives the error that a body ended with.
type failingReader struct{ err error }

// Read implements io.Reader.
func (f failingReader) Read([]byte) (int, error) { return 0, f.err }
