// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/machine"
)

const (
	// roomyHeap is how large the heap may get before garbage is collected, on a machine that
	// has heapShare times as much memory.
	roomyHeap = 160 << 20
	heapShare = 64
	// mostPercent is the most that the heap may grow by, in percent of what is in use.
	mostPercent = 400
)

// paceCollector has garbage collected less often while little memory is in use. By default
// Go lets the heap grow to twice what is in use: with 20 MB in use, requests for small items
// fill that several times a second. Where GOGC or GOMEMLIMIT is set, it changes nothing.
func paceCollector() {
	if isTuned() {
		return
	}
	heap := uint64(max(min(roomyHeap, machine.Memory()/heapShare), 0))
	afterEachCollection(func(inUse uint64) { debug.SetGCPercent(percentFor(inUse, heap)) })
}

// isTuned reports whether the environment says how often garbage is collected.
func isTuned() bool { return os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" }

// percentFor returns by how much the heap may grow, in percent of what is in use: up to heap
// bytes, or by Go's default of 100 % if that is more.
func percentFor(inUse, heap uint64) int {
	if inUse >= heap/2 {
		return 100
	}
	if inUse <= heap*100/(100+mostPercent) {
		return mostPercent
	}
	return int(heap*100/inUse) - 100 // #nosec G115 -- less than mostPercent
}

// afterEachCollection calls f after each collection of garbage, with the bytes in use.
func afterEachCollection(f func(inUse uint64)) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	var rearm func(struct{})
	rearm = func(struct{}) {
		metrics.Read(live)
		f(live[0].Value.Uint64())
		runtime.AddCleanup(new([64]byte), rearm, struct{}{}) // of what is unreachable at the next one
	}
	rearm(struct{}{})
}
