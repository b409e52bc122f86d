// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package programtest lets the tests of a program run it: the test binary, started again, is
// the program.
package programtest

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

const asProgram = "DEK_TEST_AS_PROGRAM"

// Env is what a process of the test binary has in its environment to be the program.
const Env = asProgram + "=yes"

// Main is all of a program's TestMain.
func Main(m *testing.M, program func()) {
	if os.Getenv(asProgram) != "" {
		program()
		return
	}
	os.Exit(m.Run())
}

// SaysVersion has the program print its version and commit, in either spelling of the flag
// and with nothing else in its environment.
func SaysVersion(t *testing.T, name string) {
	t.Helper()
	for _, flag := range []string{"-version", "--version"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], flag) // #nosec G204 G702 -- this program
		cmd.Env = []string{Env}
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Regexp(t, `^`+regexp.QuoteMeta(name)+` v\d+\.\d+\.\d+\S* \(commit \S+, go1\.\S+\)\n$`, string(out))
	}
}
