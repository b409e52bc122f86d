// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package pagedir

import (
	"cmp"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
)

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

// Ref is a page as a List showed it.
type Ref struct {
	Prefix page.Prefix
	// Leftover says that a split has left this entry behind: a page that Above, still
	// there, hides, or, if it is a Delta, one whose page was split.
	Leftover bool
	Above    page.Prefix
	Delta    bool
}

// Refs returns the pages, in the order of their prefixes, and the leftovers of splits.
func (l Listed) Refs() []Ref {
	refs := make([]Ref, 0, len(l.Pages))
	for p := range l.Pages {
		above, leftover := p.CoveredBy(l.Pages)
		refs = append(refs, Ref{Prefix: p, Above: above, Leftover: leftover})
	}
	for p := range l.Deltas {
		if !l.Pages[p] {
			refs = append(refs, Ref{Prefix: p, Leftover: true, Delta: true})
		}
	}
	SortRefs(refs)
	return refs
}

// SortRefs puts pages in the order of their prefixes.
func SortRefs(refs []Ref) {
	slices.SortFunc(refs, func(a, b Ref) int { return cmp.Compare(a.Prefix, b.Prefix) })
}
