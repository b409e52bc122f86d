// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package admission bounds the bytes of large requests that are answered at a time. A
// request of 29 MiB takes the plugin some 180 MiB while it is worked on, and Vault twice
// that, so a few of them at once would take all memory there is.
//
// A request over the bound is refused and does not wait: waiting, it would be in memory.
// The bound is shared fairly by a dynamic threshold (Choudhury and Hahne, "Dynamic queue
// length thresholds for shared-memory packet switches", 1998): a tenant may have as much
// in flight as is left free. So one tenant gets at most half, two a third each, and there
// is always room for one that comes new.
package admission

import (
	"math"
	"runtime/debug"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/machine"
)

const (
	// small requests are always taken: they are too many to count, and a large job of a
	// tenant must not keep its ordinary requests out.
	small = 64 << 10

	minBound = 64 << 20 // two of the largest requests that Vault takes
	maxBound = 1 << 30

	retryAfter = time.Second
)

// BusyError refuses a request while too much is in flight.
type BusyError struct{}

func (BusyError) Error() string {
	return "too many large requests at once: send it again later, or in smaller parts"
}

// RetryAfter is when to send the request again.
func (BusyError) RetryAfter() time.Duration { return retryAfter }

// Bound bounds the bytes in flight. It is safe for concurrent use.
type Bound struct {
	bytes int

	mu     sync.Mutex
	used   int
	byWhom map[string]int
}

// New returns a Bound of so many bytes.
func New(bytes int) *Bound { return &Bound{bytes: bytes, byWhom: map[string]int{}} }

// Process is the bound of this process, which all mounts share: a 64th of the machine's
// memory, or of GOMEMLIMIT a sixteenth if that is less; at least 64 MiB and at most 1 GiB.
var Process = sync.OnceValue(func() *Bound { return New(bound(machine.Memory(), debug.SetMemoryLimit(-1))) })

// bound is that of a machine with so much memory, 0 if that is not known, and of a limit
// of Go's, math.MaxInt64 if there is none.
func bound(memory, limit int64) int {
	n := int64(minBound)
	if memory > 0 {
		n = memory / 64
	}
	if limit < math.MaxInt64 {
		n = min(n, limit/16)
	}
	return int(min(max(n, minBound), maxBound))
}

// Admit takes a request of so many bytes, or fails with [BusyError]. The caller calls
// release once the request is answered.
func (b *Bound) Admit(whose string, bytes int) (release func(), err error) {
	if bytes <= small {
		return func() {}, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	own, free := b.byWhom[whose], b.bytes-b.used-bytes
	if free < 0 || own > 0 && own+bytes > free {
		return nil, BusyError{}
	}
	b.used += bytes
	b.byWhom[whose] = own + bytes
	return sync.OnceFunc(func() { b.release(whose, bytes) }), nil
}

// A Grant is room for an answer whose size shows only as it is made. It is safe for
// concurrent use.
type Grant struct {
	bound *Bound
	whose string
	bytes int // of the answer so far
	taken int // of the bound
}

// Grant begins an answer. The caller calls Release once it is made.
func (b *Bound) Grant(whose string) *Grant { return &Grant{bound: b, whose: whose} }

// More takes so many bytes more, or fails with [BusyError], by the rule of Admit: what
// the answer has already does not count against it.
func (g *Grant) More(bytes int) error {
	b := g.bound
	b.mu.Lock()
	defer b.mu.Unlock()
	g.bytes += bytes
	if g.bytes <= small {
		return nil
	}
	more := g.bytes - g.taken
	own, free := b.byWhom[g.whose], b.bytes-b.used-more
	if free < 0 || own > g.taken && own+more > free {
		g.bytes -= bytes
		return BusyError{}
	}
	b.used += more
	b.byWhom[g.whose] = own + more
	g.taken = g.bytes
	return nil
}

// Release gives back what the answer has taken.
func (g *Grant) Release() {
	g.bound.mu.Lock()
	taken := g.taken
	g.bytes, g.taken = 0, 0
	g.bound.mu.Unlock()
	if taken > 0 {
		g.bound.release(g.whose, taken)
	}
}

func (b *Bound) release(whose string, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= bytes
	if b.byWhom[whose] -= bytes; b.byWhom[whose] == 0 {
		delete(b.byWhom, whose)
	}
}
