// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A shell that there is no completion for is faulty usage.
func TestCompletion(t *testing.T) {
	for name, c := range map[string]struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		"help":           {[]string{"completion"}, exitDone, "Available Commands:", ""},
		"bash":           {[]string{"completion", "bash"}, exitDone, "__start_dek", ""},
		"one dash":       {[]string{"completion", "zsh", "-no-descriptions"}, exitDone, "#compdef dek", ""},
		"no such shell":  {[]string{"completion", "nope"}, exitUsage, "", `unknown command "nope" for "dek completion"`},
		"one too many":   {[]string{"completion", "bash", "nope"}, exitUsage, "", `unknown command "nope"`},
		"no such flag":   {[]string{"completion", "--nope"}, exitUsage, "", "unknown flag: --nope"},
		"nothing at all": {nil, exitDone, "Available Commands:", ""},
		"evidence":       {[]string{"evidence"}, exitDone, "Available Commands:", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs strings.Builder
			code := run(t.Context(), c.args, strings.NewReader(""), &out, &errs)
			assert.Equal(t, c.code, code)
			assert.Contains(t, out.String(), c.stdout)
			assert.Contains(t, errs.String(), c.stderr)
			assert.Equal(t, c.code == exitDone, errs.String() == "", errs.String())
			if c.code != exitDone {
				assert.Empty(t, out.String())
			}
		})
	}
}
