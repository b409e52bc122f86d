// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package pagedir

import "github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"

// Listed has the pages and deltas of a tenant as a List shows them, those left over
// from a split and obsolete deltas included.
type Listed struct{ Pages, Deltas map[page.Prefix]bool }

// ListedFrom reads the names that a List of a tenant's pages shows. It fails with an
// error of [page.ParseName].
func ListedFrom(names []string) (Listed, error) {
	l := Listed{make(map[page.Prefix]bool, len(names)), map[page.Prefix]bool{}}
	for _, name := range names {
		p, isDelta, err := page.ParseName(name)
		if err != nil {
			return Listed{}, err
		}
		if isDelta {
			l.Deltas[p] = true
		} else {
			l.Pages[p] = true
		}
	}
	return l, nil
}
