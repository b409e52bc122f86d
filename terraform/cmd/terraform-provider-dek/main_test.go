// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// asProgram tells the test binary, started again, to be the program.
const asProgram = "DEK_TERRAFORM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestVersionOfTheProgram(t *testing.T) {
	for _, flag := range []string{"-version", "--version"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], flag)
		cmd.Env = []string{asProgram + "=yes"}
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Regexp(t, `^terraform-provider-dek v\d+\.\d+\.\d+\S* \(commit \S+, go1\.\S+\)\n$`, string(out))
	}
}
