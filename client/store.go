// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import "context"

// Store is a place that keeps ciphertexts: a table, a bucket. A [Sweep] brings
// them to the current version while others read and write the place. It scans ahead
// while it swaps.
type Store interface {
	// Scan returns up to limit records behind the key after, in an order that
	// does not change, and an empty list at the end. after is the Key of a record
	// that was returned before, or empty for the beginning.
	Scan(ctx context.Context, after string, limit int) ([]Record, error)
	// Swap writes each change whose record still has its old text, and leaves the
	// others alone. It returns which it wrote, in the same order.
	Swap(ctx context.Context, changes []Change) ([]bool, error)
}

// Record is one ciphertext in a store.
type Record struct {
	Key            string // of the place where it is: the store's own form
	Tenant         string // the tenant's ID
	Ciphertext     string // empty: there is none (NULL)
	AssociatedData []byte
}

// Change is a text that takes the place of another.
type Change struct {
	Record     Record // as it was read
	Ciphertext string
}

// Refused is a record that does not open.
type Refused struct {
	Key    string
	Tenant string
	Err    error
}

// Progress is how far a sweep is. Every record that was scanned is counted in one
// of the others, too.
type Progress struct {
	Scanned   int64
	Rewrapped int64
	Current   int64 // were of the current version already
	Empty     int64 // had no ciphertext
	Raced     int64 // somebody else wrote in between; what they wrote is another sweep's
	Refused   int64 // do not open
	// After is the key up to which all records are done: a sweep that begins
	// behind it leaves none out.
	After string
}

// Plus is the progress of two parts of a sweep, of which next came after p.
func (p Progress) Plus(next Progress) Progress {
	return Progress{
		Scanned: p.Scanned + next.Scanned, Rewrapped: p.Rewrapped + next.Rewrapped, Current: p.Current + next.Current,
		Empty: p.Empty + next.Empty, Raced: p.Raced + next.Raced, Refused: p.Refused + next.Refused, After: next.After,
	}
}
