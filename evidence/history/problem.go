// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package history

import (
	"fmt"
	"time"
)

// Codes of problems.
const (
	CodeRepeated     = "repeated"      // an event is there twice
	CodeGap          = "gap"           // an event of a sequence is missing
	CodeOrder        = "order"         // an event does not follow the one that it names
	CodePagesLeft    = "pages-left"    // a completed rotation left pages
	CodeMissing      = "missing-event" // something happened that an entry should say
	CodeNotDestroyed = "not-destroyed" // a replaced key outlived its retention
	CodeEarly        = "early"         // a key was destroyed before its retention ended
	CodeActive       = "active-key"    // the active key was destroyed
	CodeLate         = "late"          // a tenant was not rotated within its interval
	CodeUnknown      = "unknown-type"  // an entry of a type that is not known
	CodeMalformed    = "malformed"     // an entry that is no event
)

// A Problem is a rule that does not hold, as a sentence.
type Problem struct {
	Code string
	// Index is the entry that shows it, -1 if none does.
	Index int64
	// TenantID is empty for the mount.
	TenantID string
	Text     string
}

func (h *History) report(code string, index int64, tenant, format string, args ...any) {
	h.problems = append(h.problems, Problem{code, index, tenant, fmt.Sprintf(format, args...)})
}

// stamp is how times stand in sentences.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// span writes a duration as people do.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%d days", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return fmt.Sprintf("%d seconds", d/time.Second)
}
