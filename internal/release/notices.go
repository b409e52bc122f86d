// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Package is a package that is linked into a program, with the module that it is of.
type Package struct {
	Dir    string
	Module *struct {
		Path, Version, Dir string
		Main               bool
	}
}

var (
	errNoLicense = errors.New("no license was found")
	legal        = regexp.MustCompile(`(?i)^(un)?(licen[cs]es?|copying|copyright|notices?|patents)([-.].*)?$`)
)

// Linked lists the packages that the commands link for a platform, but for those of Go
// itself.
func (p Platform) Linked(ctx context.Context, root string) ([]Package, error) {
	out, err := p.Go(ctx, root, "list", "-deps", "-json=Dir,Module", "./cmd/...")
	if err != nil {
		return nil, err
	}
	var linked []Package
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var one Package
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			return linked, nil
		}
		if err != nil {
			return nil, err
		}
		if one.Module != nil && !one.Module.Main {
			linked = append(linked, one)
		}
	}
}

// Notices returns the licenses of Go, whose standard library lies at goroot, and of the
// modules of the packages: the files that lie in a package's directory or above it in its
// module. A module without one is an error.
func Notices(goroot, goVersion string, packages []Package) ([]byte, error) {
	texts := map[string]map[string]string{} // by module, by file
	add := func(module, dir, root string) error {
		if texts[module] == nil {
			texts[module] = map[string]string{}
		}
		for {
			if err := legalFiles(dir, root, texts[module]); err != nil {
				return err
			}
			if dir == root {
				return nil
			}
			dir = filepath.Dir(dir)
		}
	}
	if err := add("Go "+strings.TrimPrefix(goVersion, "go"), goroot, goroot); err != nil {
		return nil, err
	}
	for _, p := range packages {
		if !strings.HasPrefix(p.Dir+string(filepath.Separator), p.Module.Dir+string(filepath.Separator)) {
			return nil, fmt.Errorf("a package of %s lies outside of it", p.Module.Path)
		}
		if err := add(p.Module.Path+" "+p.Module.Version, p.Dir, p.Module.Dir); err != nil {
			return nil, err
		}
	}
	return format(texts)
}

func legalFiles(dir, root string, texts map[string]string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !legal.MatchString(e.Name()) || filepath.Ext(e.Name()) == ".go" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name())) //nolint:gosec // a module's license
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		texts[filepath.ToSlash(name)] = strings.TrimSpace(strings.ReplaceAll(string(data), "\r\n", "\n"))
	}
	return nil
}

func format(texts map[string]map[string]string) ([]byte, error) {
	var out strings.Builder
	out.WriteString("Software of others that is linked into vault-plugin-dek, dek-proxy and dek.\n" +
		"The source of a module is what `go mod download MODULE@VERSION` fetches.\n")
	for _, module := range slices.Sorted(maps.Keys(texts)) {
		files := texts[module]
		if len(files) == 0 {
			return nil, fmt.Errorf("%s: %w", module, errNoLicense)
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			fmt.Fprintf(&out, "\n%s\n%s: %s\n\n%s\n", strings.Repeat("=", 80), module, name, files[name])
		}
	}
	return []byte(out.String()), nil
}
