// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package compatibility

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The table stands between these lines of the document.
const (
	begin = "<!-- What follows is rendered from the records of test runs. -->\n"
	end   = "<!-- That was rendered. -->\n"
)

// Render returns the document with the table of what the rows say.
func Render(document string, rows []Row) (string, error) {
	before, rest, found := strings.Cut(document, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", errors.New("the document has no place for the table")
	}
	return before + begin + "\n" + table(rows) + "\n" + end + after, nil
}

// table is the rows as Markdown: one for each version of each name.
func table(rows []Row) string {
	var b strings.Builder
	b.WriteString("| What | Version | Run by |\n|---|---|---|\n")
	for _, name := range names {
		tests := map[string][]string{} // by version
		for _, r := range rows {
			if r.Name == name {
				top, _, _ := strings.Cut(r.Tests, "/")
				tests[r.Version] = append(tests[r.Version], top)
			}
		}
		if len(tests) == 0 {
			fmt.Fprintf(&b, "| %s | | not run here |\n", name)
		}
		for _, version := range sorted(tests) {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", name, version, list(tests[version]))
		}
	}
	return b.String()
}

// shown is how many tests a row names.
const shown = 3

func list(tests []string) string {
	slices.Sort(tests)
	tests = slices.Compact(tests)
	for i := range tests {
		if strings.HasPrefix(tests[i], "Test") {
			tests[i] = "`" + tests[i] + "`"
		}
	}
	if more := len(tests) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(tests[:shown], ", "), more)
	}
	return strings.Join(tests, ", ")
}

// sorted returns the versions, newest first.
func sorted(tests map[string][]string) (versions []string) {
	for v := range tests {
		versions = append(versions, v)
	}
	slices.SortFunc(versions, func(a, b string) int { return slices.CompareFunc(numbers(b), numbers(a), cmp.Compare[int]) })
	return versions
}

// numbers are those of a version, for comparing.
func numbers(version string) (n []int) {
	for part := range strings.SplitSeq(version, ".") {
		number := 0
		_, _ = fmt.Sscan(part, &number) // what is no number sorts as 0
		n = append(n, number)
	}
	return n
}
