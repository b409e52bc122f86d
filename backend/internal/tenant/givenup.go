// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import "slices"

// Bounds of what a record keeps of the pages that were given up.
const (
	MaxGivenUpPages  = 1000
	maxGivenUpListed = 100
)

// GivenUp describes pages that were lost when a version of the key was destroyed by
// force: those on it, which never open again, and those that could not be read, which
// might have been on it.
type GivenUp struct {
	// Versions are those whose pages are counted.
	Versions []int `json:"versions,omitempty"`
	// Pages are those that could not be read, at most MaxGivenUpPages. The header of
	// each of the others tells that its version is destroyed.
	Pages []string `json:"pages,omitempty"`
	// Items is how many items were lost. A page of which that is not known counts as one.
	Items int `json:"items"`
	// LostPages is how many pages were lost, 0 if an earlier version has not counted them.
	LostPages int       `json:"lost_pages,omitempty"`
	Failures  []Failure `json:"failures,omitempty"` // the first 100 pages
}

// GaveUp reports whether a page that cannot be read was given up.
func (t *Record) GaveUp(page string) bool {
	return t.GivenUp != nil && slices.Contains(t.GivenUp.Pages, page)
}

// Has reports whether the pages on a version are counted. g may be nil.
func (g *GivenUp) Has(version int) bool { return g != nil && slices.Contains(g.Versions, version) }

// With returns g, which may be nil, with what more was lost.
func (g *GivenUp) With(more GivenUp) *GivenUp {
	var both GivenUp
	if g != nil {
		both = *g
	}
	for _, p := range more.Pages {
		if !slices.Contains(both.Pages, p) && len(both.Pages) < MaxGivenUpPages {
			both.Pages = append(slices.Clip(both.Pages), p)
		}
	}
	both.Versions = slices.Concat(both.Versions, more.Versions)
	both.Items += more.Items
	both.LostPages += more.LostPages
	both.Failures = slices.Concat(both.Failures, more.Failures)
	both.Failures = both.Failures[:min(len(both.Failures), maxGivenUpListed)]
	return &both
}
