// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package release

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Module is the path of the module.
const Module = "github.com/vault-plugin-dek/vault-plugin-dek"

// Commands are what a release has for each platform.
var Commands = []string{"vault-plugin-dek", "dek-proxy", "dek"}

// Platform is an operating system and a processor architecture, by Go's names.
type Platform struct{ OS, Arch string }

// Platforms are those of a release.
var Platforms = []Platform{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}}

var errPlatform = errors.New("a platform of a release is linux/amd64, linux/arm64, darwin/amd64 or darwin/arm64")

// ParsePlatforms reads platforms separated by spaces; none: all.
func ParsePlatforms(text string) ([]Platform, error) {
	var chosen []Platform
	for name := range strings.FieldsSeq(text) {
		found := false
		for _, p := range Platforms {
			if p.OS+"/"+p.Arch == name {
				chosen, found = append(chosen, p), true
			}
		}
		if !found {
			return nil, fmt.Errorf("%q: %w", name, errPlatform)
		}
	}
	if chosen == nil {
		return Platforms, nil
	}
	return chosen, nil
}

// Named returns the name of a file of a version for the platform.
func (p Platform) Named(name, version string) string {
	return fmt.Sprintf("%s_%s_%s_%s", name, version, p.OS, p.Arch)
}

// Environment is what decides about a build, beside its flags: nothing of what the
// builder's own environment or Go's settings have. The baseline of each architecture runs
// on every machine that Vault runs on.
func (p Platform) Environment() []string {
	return []string{
		"CGO_ENABLED=0", "GOOS=" + p.OS, "GOARCH=" + p.Arch, "GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off", "GOWORK=off", "GOENV=off",
	}
}

// LDFlags strips what is not needed to run, and records the commit.
func LDFlags(commit string) string {
	return "-s -w -buildid= -X " + Module + "/internal/version.commit=" + commit
}

// Flags are those of go build.
func Flags(commit string) []string {
	return []string{"-trimpath", "-buildvcs=false", "-ldflags", LDFlags(commit)}
}

// Go runs the go command at root for the platform and returns its output. What it says
// about a failure is in the error.
func (p Platform) Go(ctx context.Context, root string, args ...string) ([]byte, error) {
	program := os.Getenv("GO")
	if program == "" {
		program = "go"
	}
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // the builder's Go
	cmd.Dir = root
	cmd.Env = append(os.Environ(), p.Environment()...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		return nil, fmt.Errorf("go %s for %s/%s: %w", args[0], p.OS, p.Arch, err)
	}
	return out, nil
}

// Build builds a command into a file.
func (p Platform) Build(ctx context.Context, root, command, commit, file string) error {
	args := append([]string{"build"}, Flags(commit)...)
	_, err := p.Go(ctx, root, append(args, "-o", file, "./cmd/"+command)...)
	return err
}

var versionLine = regexp.MustCompile(`(?m)^\s*version\s+= "(v\d+\.\d+\.\d+(?:-[0-9A-Za-z.]+)?)"$`)

// Version reads the version of the source at root.
func Version(root string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, "internal", "version", "version.go")) //nolint:gosec // the repository's
	if err != nil {
		return "", err
	}
	m := versionLine.FindSubmatch(data)
	if m == nil {
		return "", errors.New("internal/version/version.go has no version such as v1.2.3")
	}
	return string(m[1]), nil
}
