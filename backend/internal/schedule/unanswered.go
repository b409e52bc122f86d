// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
)

const (
	// maxUnanswered bounds the requests that are remembered since they had no answer.
	maxUnanswered = 64
	// resumeWithin is how long after that the same request goes on with the first. What
	// is asked for later is another emergency.
	resumeWithin = 5 * time.Minute
)

// unanswered remembers requests for many that were given up before their answer, as by a
// time-out: the caller that sends the same again, under a new ID, goes on with the first.
// So a tenant that the first has served is not rotated again. It is kept in memory: Vault
// itself repeats a request under the same ID.
type unanswered struct {
	mu     sync.Mutex
	latest []givenUp // the last one last
}

type givenUp struct {
	same    [sha256.Size]byte // what is the same of both
	request string            // the digest of the first one's ID
	at      time.Time
}

// begin returns the digest by which records know a request: that of an earlier one, if
// it goes on with that. note is called at its end.
func (u *unanswered) begin(d Demand, tenantIDs []string, now time.Time) (request string, note func(isGivenUp bool, now time.Time)) {
	request, same := actor.RequestDigest(d.Request), sameness(d, tenantIDs)
	u.mu.Lock()
	defer u.mu.Unlock()
	i := slices.IndexFunc(u.latest, func(g givenUp) bool { return g.same == same })
	if i >= 0 && now.Sub(u.latest[i].at).Abs() < resumeWithin {
		request = u.latest[i].request
	}
	return request, func(isGivenUp bool, now time.Time) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.latest = slices.DeleteFunc(u.latest, func(g givenUp) bool { return g.same == same })
		if isGivenUp {
			u.latest = append(u.latest, givenUp{same, request, now})
			u.latest = u.latest[max(0, len(u.latest)-maxUnanswered):]
		}
	}
}

// sameness is a hash of what a request asks for, its ID apart.
func sameness(d Demand, tenantIDs []string) [sha256.Size]byte {
	d.Request = ""
	sorted := slices.Sorted(slices.Values(tenantIDs))
	encoded, _ := json.Marshal([]any{d, sorted}) // texts and a boolean: it does not fail
	return sha256.Sum256(encoded)
}
