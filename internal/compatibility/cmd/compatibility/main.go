// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Command compatibility renders the table of docs/compatibility.md from the records of
// test runs that are its arguments.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/compatibility"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "compatibility:", err)
		os.Exit(1)
	}
}

func run(records []string) error {
	if len(records) == 0 {
		return fmt.Errorf("name the records that test runs have written (%s)", compatibility.Record)
	}
	rows, err := compatibility.Read(records...)
	if err != nil {
		return err
	}
	root, err := compatibility.Root()
	if err != nil {
		return err
	}
	file := filepath.Join(root, compatibility.Document)
	text, err := os.ReadFile(file) // #nosec G304 -- the document
	if err != nil {
		return err
	}
	rendered, err := compatibility.Render(string(text), rows)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(rendered), 0o644) // #nosec G306 G703 -- a document for all
}
