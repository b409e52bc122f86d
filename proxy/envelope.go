// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"time"
)

// stamp is a time as the documents show it: UTC, milliseconds and Z.
type stamp time.Time

// MarshalJSON implements json.Marshaler.
func (s stamp) MarshalJSON() ([]byte, error) {
	return []byte(time.Time(s).UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// optional returns nil, JSON's null, for no time.
func optional(t *time.Time) *stamp {
	if t == nil || t.IsZero() {
		return nil
	}
	s := stamp(*t)
	return &s
}

// family is what the two kinds of callers do not share.
type family struct {
	// credential finds who is asking.
	credential func(http.Header) (credential, *problem)
	// envelope puts an error into the documented form.
	envelope func(p *problem, requestID string, now time.Time) any
	// challenge is the WWW-Authenticate header of a 401, if the family's scheme has a name.
	challenge string
}

var (
	adminFamily  = &family{credential: bearer, envelope: adminError, challenge: "Bearer"}
	publicFamily = &family{credential: sessionID, envelope: publicError}
)

// familyOf decides by the path, also for routes that do not exist.
func familyOf(urlPath string) *family {
	first, _, _ := strings.Cut(strings.TrimPrefix(path.Clean("/"+urlPath), "/"), "/")
	if first == "public" || first == "saas" {
		return publicFamily
	}
	return adminFamily
}

// adminEnvelope is the success form of /api/.
type adminEnvelope struct {
	Success   bool   `json:"success"`
	Message   string `json:"message"`
	Data      any    `json:"data"`
	Timestamp stamp  `json:"timestamp"`
}

type errorObject struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	RequestID string `json:"requestId,omitempty"`
	Details   any    `json:"details"`
}

func adminError(p *problem, _ string, now time.Time) any {
	details := map[string]string{}
	switch {
	case p.rotationID != "":
		details["rotationId"] = p.rotationID
	case p.reason != "":
		details["reason"] = p.reason
	}
	return struct {
		Success   bool        `json:"success"`
		Error     errorObject `json:"error"`
		Timestamp stamp       `json:"timestamp"`
	}{Error: errorObject{Code: p.code, Message: p.message, Details: details}, Timestamp: stamp(now)}
}

// publicDetail is an element of the list that the second family's details are.
type publicDetail struct {
	Message string `json:"message"`
}

func publicError(p *problem, requestID string, _ time.Time) any {
	details := []publicDetail{}
	if p.reason != "" {
		details = append(details, publicDetail{Message: p.reason})
	}
	return struct {
		Error errorObject `json:"error"`
	}{errorObject{Code: p.code, Message: p.message, RequestID: requestID, Details: details}}
}

// writeJSON answers. Nothing here may be stored by anyone in between: answers
// depend on who asks, and one of them carries a session.
func writeJSON(w http.ResponseWriter, status int, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return internal(err)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// A failed write means the caller is gone.
	_, _ = w.Write(append(raw, '\n'))
	return nil
}
