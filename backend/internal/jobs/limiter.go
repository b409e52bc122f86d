// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package jobs

import (
	"sync"
	"time"
)

const (
	// servedFor is the time after a request during which tenants count as being served.
	servedFor = 100 * time.Millisecond
	// besideRequests is the number of pages that rotations have in flight when the first
	// request comes, and leastBeside how many they keep in any case.
	besideRequests = 10
	leastBeside    = 4
	// slowRead bounds the time of a read in the plugin, storage included; one of
	// toleratedSlow may take longer.
	slowRead      = 9 * time.Millisecond
	toleratedSlow = 20
)

// Limiter says how many pages rotations may have in flight beside requests. A
// page in flight makes requests wait, and how long depends on the machine: so the
// number follows from how long reads take. It is raised by one at a time while
// they are fast and lowered by a quarter when they are slow, as TCP does it with
// a congestion window.
type Limiter struct {
	mu     sync.Mutex
	last   time.Time // of a request
	beside int

	since       time.Time // when the present window of reads began
	reads, slow int
}

// window is the time over which reads are counted before the number changes.
const window = servedFor

// Touch notes that a request uses a tenant's items or keys.
func (f *Limiter) Touch(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noteRequest(now)
}

// idle reports whether no requests are being served, as far as a clock tells that may
// have been set back.
func (f *Limiter) idle(now time.Time) bool {
	return now.Before(f.last) || now.Sub(f.last) >= servedFor
}

func (f *Limiter) noteRequest(now time.Time) {
	if f.idle(now) { // the first after a while
		f.beside, f.since, f.reads, f.slow = besideRequests, now, 0, 0
	}
	f.last = now
}

// Read notes a read that ends now.
func (f *Limiter) Read(now time.Time, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noteRequest(now)
	f.reads++
	if took > slowRead {
		f.slow++
	}
	if now.Sub(f.since) < window {
		return
	}
	if f.slow*toleratedSlow > f.reads {
		f.beside = max(leastBeside, f.beside*3/4)
	} else {
		f.beside++
	}
	f.since, f.reads, f.slow = now, 0, 0
}

// Limit returns how many pages rotations may have in flight, of at most most.
func (f *Limiter) Limit(now time.Time, most int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.idle(now) {
		return most
	}
	f.beside = min(f.beside, max(most, leastBeside))
	return min(f.beside, most)
}
