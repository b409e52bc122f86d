// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// What a terminal is told: to go to its first line, to clear the rest of a line, and to
// clear what is below.
const (
	toHome    = "\x1b[H"
	clearLine = "\x1b[K"
	clearRest = "\x1b[J"
)

// view is what status --watch shows: a page on a terminal, else one status after another.
type view struct {
	a     *app
	last  string // the status that was shown last
	since time.Time
	shown bool
}

// show shows a status.
func (v *view) show(s *client.Status) error {
	v.since = time.Time{}
	if v.a.json {
		return v.a.tell(s, "")
	}
	text := statusText(s) + "\n"
	if isTerminal(v.a.stdout) {
		v.last = text
		return v.draw(text)
	}
	if v.shown {
		text = "\n" + text
	}
	v.shown = true
	_, err := io.WriteString(v.a.stdout, text)
	return err
}

// unanswered says that there is no newer status than the last.
func (v *view) unanswered(failure error) error {
	if v.since.IsZero() {
		v.since = time.Now()
	}
	if v.a.json || !isTerminal(v.a.stdout) {
		v.a.say("dek: %s", failure)
		return nil
	}
	return v.draw(fmt.Sprintf("%s\nNo answer since %s: %s\n", v.last, v.since.UTC().Format(time.RFC3339), failure))
}

// draw draws over the page, as many lines as it has.
func (v *view) draw(text string) error {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	width, height := v.size()
	if hidden := len(lines) - (height - 1); hidden > 0 {
		lines = append(lines[:max(len(lines)-hidden-1, 0)], fmt.Sprintf("… %d lines more", hidden+1))
	}
	var page strings.Builder
	if !v.shown {
		page.WriteString(toHome + clearRest)
	}
	v.shown = true
	page.WriteString(toHome)
	for _, line := range lines {
		if runes := []rune(line); len(runes) > width {
			line = string(runes[:max(width-1, 0)]) + "…"
		}
		page.WriteString(line + clearLine + "\n")
	}
	page.WriteString(clearRest)
	_, err := io.WriteString(v.a.stdout, page.String())
	return err
}

// size is the size of the terminal, or of one that is large enough.
func (v *view) size() (width, height int) {
	if f, isFile := v.a.stdout.(*os.File); isFile {
		width, height, err := term.GetSize(int(f.Fd())) // #nosec G115 -- a file descriptor
		if err == nil && width > 0 && height > 1 {
			return width, height
		}
	}
	return 1 << 10, 1 << 10
}

// statusText is a status for people.
func statusText(s *client.Status) string {
	lines := []string{
		fmt.Sprintf("Tenants              %d", s.Tenants),
		fmt.Sprintf("Rotations active     %d", s.RotationsActive),
		fmt.Sprintf("Rotations failed     %d", s.RotationsFailed),
		fmt.Sprintf("Overdue              %d", s.Overdue),
		fmt.Sprintf("Blocked              %d", s.Blocked),
		fmt.Sprintf("Paused               %d, %d of them overdue", s.Paused, s.PausedOverdue),
		fmt.Sprintf("Due within 7 days    %d", s.DueWithin7Days),
		fmt.Sprintf("Oldest key           %s", strings.TrimSuffix(age(time.Duration(s.OldestKeyAge))+", tenant "+s.OldestKeyTenant, ", tenant ")),
	}
	if s.KEKAge != nil {
		overdue := ""
		if s.KEKOverdue {
			overdue = ", overdue"
		}
		lines = append(lines, "Key-encryption key   "+age(time.Duration(*s.KEKAge))+overdue)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Providers)) {
		lines = append(lines, fmt.Sprintf("Key provider         %s %s", name, s.Providers[name]))
	}
	if s.EvidencePending > 0 {
		lines = append(lines, fmt.Sprintf("Evidence pending     %d events are not in the log yet", s.EvidencePending))
	}
	for _, where := range slices.Sorted(maps.Keys(s.DamagedEntries)) {
		lines = append(lines, fmt.Sprintf("Damaged entries      %s: %d", where, s.DamagedEntries[where]))
	}
	if !s.IndexComplete {
		lines = append(lines, fmt.Sprintf("Counted so far       %d records read since the start", s.IndexRead))
	}
	lines = append(lines, "As of                "+s.AsOf.UTC().Format(time.RFC3339))
	for _, id := range s.FailedTenants {
		lines = append(lines, "Failed tenant        "+id)
	}
	for _, id := range s.OverdueTenants {
		lines = append(lines, "Overdue tenant       "+id)
	}
	for _, id := range slices.Sorted(maps.Keys(s.BlockedTenants)) {
		lines = append(lines, "Blocked tenant       "+id+": "+s.BlockedTenants[id])
	}
	return strings.Join(lines, "\n")
}

// age is a duration in the unit that a reader would take.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.Round(time.Second).String()
}
