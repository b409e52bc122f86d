// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package verify

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/history"
)

// entry takes one entry.
func (r *run) entry(index int64, event *evidence.Event, err error) {
	switch {
	case errors.Is(err, evidence.ErrUnknownType):
		r.result.History.AddUnknown(index)
		return
	case err != nil:
		r.result.History.AddMalformed(index, err)
		return
	}
	r.result.History.Add(index, event)
	if r.options.Each != nil {
		r.options.Each(index, event)
	}
	switch d := event.Detail.(type) {
	case *evidence.LogStarted:
		if index == 0 {
			r.first = d
		}
	case *evidence.LogKeyRotated:
		r.rotated = append(r.rotated, rotation{index, d.Old, d.New})
		r.want[index+1] = tlog.Hash{}
	}
}

// content judges what the entries say.
func (r *run) content(rooted bool) {
	if r.first == nil && r.result.Size > 0 {
		r.result.broken(history.CodeMissing, 0, "The first entry does not say which plugin began the log.")
	}
	wrong := map[string]bool{}
	for _, p := range r.result.History.Finish(r.options.Now) {
		wrong[p.Code] = true
		r.result.Broken = append(r.result.Broken, Finding{Code: p.Code, Index: p.Index, TenantID: p.TenantID, Text: p.Text})
	}
	if rooted {
		r.summarize(wrong)
	}
}

// summarize says what holds of the content: of each rule that nothing breaks.
func (r *run) summarize(wrong map[string]bool) {
	if wrong[history.CodeUnknown] || wrong[history.CodeMalformed] {
		return // what was not read cannot be judged
	}
	completed, destroyed := 0, 0
	tenants := r.result.History.Tenants()
	for _, t := range tenants {
		for _, rotation := range t.Rotations {
			if rotation.Status == "completed" {
				completed++
			}
		}
		for _, v := range t.Versions {
			if v.Destroyed[evidence.WhichPage] != nil {
				destroyed++
			}
		}
	}
	for _, rule := range []struct {
		codes []string
		text  string
	}{
		{
			[]string{history.CodeGap, history.CodeOrder, history.CodeRepeated, history.CodeMissing},
			fmt.Sprintf("No event is missing: the sequences of the mount and of %s have no gap.", counted(len(tenants), "tenant")),
		},
		{
			[]string{history.CodePagesLeft},
			fmt.Sprintf("Each completed rotation left 0 pages on the key that it replaced: %s.", counted(completed, "rotation")),
		},
		{
			[]string{history.CodeNotDestroyed, history.CodeEarly, history.CodeActive},
			fmt.Sprintf("Each key that was replaced was destroyed after its retention, or its retention lasts: %s destroyed.",
				counted(destroyed, "page key")),
		},
		{[]string{history.CodeLate}, "Each tenant was rotated within its interval."},
	} {
		if !slices.ContainsFunc(rule.codes, func(code string) bool { return wrong[code] }) {
			r.result.holds(rule.codes[0], "%s", rule.text)
		}
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
