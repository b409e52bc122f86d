// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package item

import (
	"encoding/json"
)

// Counts are numbers of items by kind.
type Counts [len(Kinds)]uint32

// Total is the number of items of all kinds.
func (c Counts) Total() int {
	n := 0
	for _, k := range c {
		n += int(k)
	}
	return n
}

// Plus returns the sums, kind by kind.
func (c Counts) Plus(d Counts) Counts {
	for i := range c {
		c[i] += d[i]
	}
	return c
}

// Minus returns the differences, kind by kind, and 0 where d is the greater.
func (c Counts) Minus(d Counts) Counts {
	for i := range c {
		c[i] -= min(c[i], d[i])
	}
	return c
}

// Min returns the smaller counts, kind by kind.
func (c Counts) Min(d Counts) Counts {
	for i := range c {
		c[i] = min(c[i], d[i])
	}
	return c
}

// Map returns the counts under the names that responses use.
func (c Counts) Map() map[string]int {
	m := make(map[string]int, len(c))
	for i, k := range Kinds {
		m[k.countName] = int(c[i])
	}
	return m
}

// MarshalJSON encodes the counts under the names that responses use.
func (c Counts) MarshalJSON() ([]byte, error) { return json.Marshal(c.Map()) }

// UnmarshalJSON is the reverse of MarshalJSON.
func (c *Counts) UnmarshalJSON(b []byte) error {
	var m map[string]uint32
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	for i, k := range Kinds {
		c[i] = m[k.countName]
	}
	return nil
}
