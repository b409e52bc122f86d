// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package compatibility keeps the table of docs/compatibility.md true: what the tests ran
// with, in which version. A test says so with [Ran]. Its line goes to the file that
// DEK_COMPATIBILITY names, from which the command beside this package renders the table.
package compatibility

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Document is the file that has the table, in the repository.
const Document = "docs/compatibility.md"

// Record names the environment variable that names the file for lines.
const Record = "DEK_COMPATIBILITY"

// names are what the table has rows of, in its order. What no record has is "not run here".
var names = []string{
	"Vault", "OpenBao", "vault kv", "Vault Agent", "Vault's Go client", "hvac", "node-vault",
	"External Secrets Operator", "OpenTofu", "Go", "PostgreSQL", "SoftHSM",
}

// Ran notes, if the test passes, that it ran with a version of something. A version that
// the repository itself pins must be in the table, or the test fails.
func Ran(t testing.TB, name, version string, pinned bool) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() || t.Skipped() {
			return
		}
		if err := Note(Row{name, version, t.Name()}, pinned); err != nil {
			t.Error(err)
		}
	})
}

// Note is what Ran does at the end of a test, for what is known at the end of all.
func Note(r Row, pinned bool) error {
	if !slices.Contains(names, r.Name) {
		return fmt.Errorf("the table of %s has no rows of %s", Document, r.Name)
	}
	if file := os.Getenv(Record); file != "" {
		return appendTo(file, r)
	}
	if !pinned {
		return nil
	}
	root, err := Root()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(root, Document)) // #nosec G304 -- the document
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), "\n| "+r.Name+" | "+r.Version+" | ") {
		return fmt.Errorf("%s does not say that %s ran with %s %s: docs/development.md says how it is rendered", Document, r.Tests, r.Name, r.Version)
	}
	return nil
}

// appendTo adds a line to a record, in one write: several processes may have it open.
func appendTo(file string, r Row) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) // #nosec G304 G703 -- the user names it
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s\t%s\t%s\n", r.Name, r.Version, r.Tests)
	if closing := f.Close(); err == nil {
		err = closing
	}
	return err
}

// Root returns the repository's directory: the nearest one above the working directory that
// has the document. devstack.RepoRoot would bring along Vault's client, which the module of
// cmd/dek-kms-pkcs11 does without.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, Document)); err == nil {
			return dir, nil
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", fmt.Errorf("there is no %s above the working directory", Document)
		}
		dir = above
	}
}

// Row is a line of a record, and of the table.
type Row struct{ Name, Version, Tests string }

// Read reads records.
func Read(files ...string) (rows []Row, err error) {
	for _, name := range files {
		f, err := os.Open(name) // #nosec G304 -- the user names it
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Split(lines.Text(), "\t")
			if len(fields) != 3 {
				return nil, fmt.Errorf("%s: %q is no line of a record", name, lines.Text())
			}
			rows = append(rows, Row{fields[0], fields[1], fields[2]})
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// RequiredBy returns the version of a module that the go.mod in a directory of the
// repository requires; of "go", its toolchain.
func RequiredBy(dir, module string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, dir, "go.mod")
	text, err := os.ReadFile(path) // #nosec G304 -- of the repository
	if err != nil {
		return "", err
	}
	line := regexp.QuoteMeta(module) + " v"
	if module == "go" {
		line = "toolchain go"
	}
	found := regexp.MustCompile(`(?m)^\s*(?:require )?` + line + `(\S+)`).FindSubmatch(text)
	if found == nil {
		return "", fmt.Errorf("%s does not require %s", path, module)
	}
	return string(found[1]), nil
}

// aVersion is what programs print of their version, among other words.
var aVersion = regexp.MustCompile(`\d+\.\d+(\.\d+)*`)

// VersionIn returns the first version in what a program printed.
func VersionIn(out []byte) string { return string(aVersion.Find(out)) }
