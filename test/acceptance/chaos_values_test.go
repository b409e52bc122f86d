// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
)

// filling is the secret part of an item's value: text that follows from the
// item's name and the change's number, of a length that does too. One in a
// hundred is larger than a page.
func filling(item string, change int) string {
	seed := uint64(change)
	for _, c := range []byte(item) {
		seed = seed*1099511628211 + uint64(c)
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	length := 500 + rng.IntN(1000)
	if rng.IntN(100) == 0 {
		length = 40_000
	}
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	b := make([]byte, length)
	for i := range b {
		b[i] = letters[rng.Uint32()%64]
	}
	return string(b)
}

// value is the body that writes a change.
func value(item string, change int) map[string]any {
	return map[string]any{
		"data":     map[string]any{"change": change, "filling": filling(item, change)},
		"metadata": map[string]string{"change": strconv.Itoa(change)},
	}
}

// shownBy reads a state out of an answer. intact is false if data and metadata
// are not of one change, or not as they were written.
func shownBy(item string, data map[string]any) (s state, intact bool) {
	value, _ := data["data"].(map[string]any)
	metadata, _ := data["metadata"].(map[string]any)
	s = state{change: number(value["change"]), revision: number(data["revision"])}
	return s, s.revision > 0 && metadata["change"] == strconv.Itoa(s.change) && value["filling"] == filling(item, s.change)
}

func number(v any) int {
	switch n := v.(type) {
	case float64:
		return int(n)
	case json.Number:
		i, _ := n.Int64()
		return int(i)
	}
	return 0
}
