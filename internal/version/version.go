// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package version says which version and which commit a binary is of. A build sets
// them with
//
//	-ldflags "-X github.com/vault-plugin-dek/vault-plugin-dek/internal/version.version=v1.2.3
//	          -X github.com/vault-plugin-dek/vault-plugin-dek/internal/version.commit=0123abcd"
//
// Where it does not, the commit is the one that Go has recorded, if it has.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

var (
	version = "v0.1.0"
	commit  string
)

// unknown is the commit of a binary that was built without recording it.
const unknown = "unknown"

// Version returns the semantic version, with a leading v.
func Version() string { return version }

// Commit returns the commit's hash, with "-dirty" where files had changed since, or
// "unknown".
func Commit() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	return recorded(info.Settings)
}

// recorded reads what Go writes into a binary that it builds in a repository.
func recorded(settings []debug.BuildSetting) string {
	revision, dirty := unknown, ""
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision" && s.Value != "":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == unknown {
		return unknown
	}
	return revision + dirty
}

// Line is what a command prints when it is asked for its version.
func Line(command string) string {
	return fmt.Sprintf("%s %s (commit %s, %s)", command, Version(), Commit(), runtime.Version())
}
