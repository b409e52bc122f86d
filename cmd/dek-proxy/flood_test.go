// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
)

// senders is how many bodies come at once.
const senders = 400

// flood sends bodies of 1 MiB with 120,000 keys, to a login and to a change of
// settings, for which no credential is needed to have them parsed. It returns how
// many were answered 413.
func flood(address string) int64 {
	var refused atomic.Int64
	var all sync.WaitGroup
	body := manyKeys()
	for i := range senders {
		all.Go(func() {
			path, session := "/saas/public/core/v3/login", ""
			if i%2 == 0 {
				path, session = "/public/core/v3/key/rotationSettings", "hvs.any"
			}
			if post(address, path, session, body) == http.StatusRequestEntityTooLarge {
				refused.Add(1)
			}
		})
	}
	all.Wait()
	return refused.Load()
}

// manyKeys is a JSON object of 120,000 keys in at most 1 MiB.
func manyKeys() []byte {
	var b bytes.Buffer
	b.WriteString(`{"":0`)
	for i := range 120_000 - 1 {
		key := strconv.FormatInt(int64(i), 36)
		fmt.Fprintf(&b, `,"%s":0`, key)
	}
	b.WriteString("}")
	return b.Bytes()
}

// post returns the status, or 0 if no answer came. Where many bodies wait to be thrown
// away, on a busy machine, the proxy ends a connection whose turn does not come soon, before
// all is sent and the answer read: then the body is sent again.
func post(address, path, session string, body []byte) (status int) {
	for range 100 {
		var err error
		if status, err = postOnce(address, path, session, body); err == nil {
			break
		}
	}
	return status
}

func postOnce(address, path, session string, body []byte) (status int, err error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+address+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if session != "" {
		req.Header.Set("INFA-SESSION-ID", session)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
