// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import "runtime/debug"

// release is set by the linker when a release is built.
var release = "development"

// version names the release, and the commit where the build knows it.
func version() string {
	info, known := debug.ReadBuildInfo()
	if !known {
		return release
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return release + " (" + s.Value[:12] + ")"
		}
	}
	return release
}
