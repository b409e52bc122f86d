// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package version

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRecordedCommit(t *testing.T) {
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "abc"}
	for want, settings := range map[string][]debug.BuildSetting{
		"unknown":   {{Key: "vcs.modified", Value: "true"}},
		"abc":       {revision, {Key: "vcs.modified", Value: "false"}},
		"abc-dirty": {{Key: "vcs.modified", Value: "true"}, revision},
	} {
		require.Equal(t, want, recorded(settings))
	}
}

func TestLine(t *testing.T) {
	before := commit
	defer func() { commit = before }()
	commit = "0123abcd"
	require.Regexp(t, `^dek-proxy v\d+\.\d+\.\d+\S* \(commit 0123abcd, go1\.\S+\)$`, Line("dek-proxy"))
}
