// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"time"

	"github.com/schollz/progressbar/v3"
)

// meter shows how far a command is: a bar on a terminal, lines of JSON with
// -json, nothing else.
type meter struct {
	a     *app
	bar   *progressbar.ProgressBar
	total int64
	last  time.Time
}

// hasBar reports whether a meter is a bar.
func (a *app) hasBar() bool { return !a.json && isTerminal(a.stderr) }

// meter makes a meter up to total, 0 or below if that is not known. A bar that cannot be
// drawn is no failure of the command.
func (a *app) meter(total int64, what string) *meter {
	m := &meter{a: a, total: total}
	if a.hasBar() {
		if total <= 0 {
			total = -1 // a spinner: a bar of nothing cannot be drawn
		}
		m.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(a.stderr),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	return m
}

// show shows that done of the total are done; event is the line of JSON, of which
// there is at most one a second.
func (m *meter) show(done int64, event any) error {
	if m.bar != nil {
		if m.total > 0 {
			done = min(done, m.total) // more has come since the total was counted
		}
		_ = m.bar.Set64(done)
		return nil
	}
	if !m.a.json || time.Since(m.last) < time.Second {
		return nil
	}
	m.last = time.Now()
	return m.a.tell(event, "")
}

// finish takes the bar away.
func (m *meter) finish() {
	if m.bar != nil {
		_ = m.bar.Finish()
	}
}
