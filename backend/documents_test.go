// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// testCode is what the tests of the repository define.
type testCode struct {
	functions map[string]bool
	scenarios map[string]*ast.CompositeLit // lists of scenarios, by the variable or function
	joined    map[string][]string          // the lists that a variable joins
}

// readTestCode reads every test file of the repository, whatever its build tags.
func readTestCode(t *testing.T) testCode {
	t.Helper()
	code := testCode{functions: map[string]bool{}, scenarios: map[string]*ast.CompositeLit{}, joined: map[string][]string{}}
	require.NoError(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "bin" || strings.HasPrefix(d.Name(), ".") && d.Name() != ".."):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			code.add(decl)
		}
		return nil
	}))
	code.join()
	return code
}

// join takes lists that a variable joins for one.
func (c *testCode) join() {
	for name, parts := range c.joined {
		whole := &ast.CompositeLit{}
		for _, part := range parts {
			if list := c.scenarios[part]; list != nil {
				whole.Elts = append(whole.Elts, list.Elts...)
				delete(c.scenarios, part)
			}
		}
		if len(whole.Elts) > 0 {
			c.scenarios[name] = whole
		}
	}
}

func (c *testCode) add(decl ast.Decl) {
	name := ""
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		name = decl.Name.Name
		c.functions[name] = true
	case *ast.GenDecl:
		if value, ok := decl.Specs[0].(*ast.ValueSpec); ok {
			name = value.Names[0].Name
		}
	}
	ast.Inspect(decl, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Concat" {
				for _, arg := range call.Args {
					if part, ok := arg.(*ast.Ident); ok {
						c.joined[name] = append(c.joined[name], part.Name)
					}
				}
			}
		}
		list, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		if array, ok := list.Type.(*ast.ArrayType); ok && isScenario(array.Elt) {
			c.scenarios[name] = list
			return false
		}
		return true
	})
}

func isScenario(e ast.Expr) bool {
	if selected, ok := e.(*ast.SelectorExpr); ok {
		e = selected.Sel
	}
	name, ok := e.(*ast.Ident)
	return ok && strings.EqualFold(name.Name, "scenario")
}

// count returns how many scenarios a list has, and how many of them have two faults.
func count(list *ast.CompositeLit) (all, twice int) {
	for _, sc := range list.Elts {
		ast.Inspect(sc, func(n ast.Node) bool {
			if field, ok := n.(*ast.KeyValueExpr); ok {
				key, _ := field.Key.(*ast.Ident)
				value, _ := field.Value.(*ast.Ident)
				if key != nil && value != nil && strings.EqualFold(key.Name, "twice") && value.Name == "true" {
					twice++
				}
			}
			return true
		})
	}
	return len(list.Elts), twice
}

var (
	testName    = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)(?:/[^`]*)?`")
	scenarioRow = regexp.MustCompile("(?m)^\\| `(Test\\w+)` \\| `(\\w+)` \\| (\\d+) \\| (\\d+) \\|")
)

// Every test that the page of invariants names exists, and it says how many scenarios
// each test of crash points has.
func TestInvariantsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/design/invariants.md")
	require.NoError(t, err)
	code := readTestCode(t)

	names := testName.FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(names), 100, "the page names its tests")
	for _, m := range names {
		if m[1] != "TestContract" { // what the names of many begin with
			require.True(t, code.functions[m[1]], "%s is named and does not exist", m[1])
		}
	}

	listed := map[string]bool{}
	for _, row := range scenarioRow.FindAllStringSubmatch(string(page), -1) {
		list := code.scenarios[row[2]]
		require.NotNil(t, list, "%s has no scenarios %s", row[1], row[2])
		all, twice := count(list)
		require.Equal(t, row[3], strconv.Itoa(all), "scenarios of %s", row[1])
		require.Equal(t, row[4], strconv.Itoa(twice), "scenarios of %s with two faults", row[1])
		listed[row[2]] = true
	}
	for name := range code.scenarios {
		require.True(t, listed[name], "the scenarios %s are on no row", name)
	}
}

// A document that the engine's code names, or another document links to, exists.
func TestDocumentedFilesExist(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+\.md)(?:#[^)]*)?\)`)
	mention := regexp.MustCompile(`docs/[A-Za-z0-9_/-]+\.md`)
	require.NoError(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "bin" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && d.Name() != ".."):
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		ext, backend := filepath.Ext(path), strings.HasPrefix(filepath.ToSlash(path), "../backend/")
		if ext != ".md" && (ext != ".go" || !backend) {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if ext == ".go" {
			for _, name := range mention.FindAllString(string(text), -1) {
				require.FileExists(t, filepath.Join("..", name), "named in %s", path)
			}
			return nil
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			require.FileExists(t, filepath.Join(filepath.Dir(path), m[1]), "linked in %s", path)
		}
		return nil
	}))
}
