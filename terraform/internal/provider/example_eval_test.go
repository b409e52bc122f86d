// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package provider

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// example is a configuration that is carried out without its provider, which cannot be had
// here: expressions are evaluated as OpenTofu would, and apply makes a resource and
// returns its computed attributes.
type example struct {
	t     *testing.T
	dir   string
	apply func(kind string, attributes map[string]cty.Value) map[string]cty.Value

	scope map[string]cty.Value            // var, local, path
	made  map[string]map[string]cty.Value // resources by type and name
}

// carryOut evaluates the files of a directory with variables, each resource after those
// that it refers to.
func (e *example) carryOut(variables map[string]cty.Value) {
	e.scope = map[string]cty.Value{"path": cty.ObjectVal(map[string]cty.Value{"module": cty.StringVal(e.dir)})}
	e.made = map[string]map[string]cty.Value{}
	var blocks []*hclsyntax.Block
	files, err := filepath.Glob(filepath.Join(e.dir, "*.tf"))
	require.NoError(e.t, err)
	require.NotEmpty(e.t, files)
	for _, file := range files {
		parsed, diags := hclparse.NewParser().ParseHCLFile(file)
		require.False(e.t, diags.HasErrors(), "%v", diags)
		blocks = append(blocks, parsed.Body.(*hclsyntax.Body).Blocks...)
	}
	e.variables(blocks, variables)
	for pending := blocks; len(pending) > 0; {
		var later []*hclsyntax.Block
		var why hcl.Diagnostics
		for _, block := range pending {
			if diags := e.evaluate(block); diags.HasErrors() {
				later, why = append(later, block), append(why, diags...)
			}
		}
		require.Less(e.t, len(later), len(pending), "%v", why)
		pending = later
	}
}

func (e *example) variables(blocks []*hclsyntax.Block, given map[string]cty.Value) {
	values := map[string]cty.Value{}
	for _, block := range blocks {
		if block.Type != "variable" {
			continue
		}
		name := block.Labels[0]
		kind, diags := typeexpr.TypeConstraint(block.Body.Attributes["type"].Expr)
		require.False(e.t, diags.HasErrors(), "%v", diags)
		value, known := given[name]
		if standard := block.Body.Attributes["default"]; !known {
			require.NotNil(e.t, standard, "variable %s has no default", name)
			value, diags = standard.Expr.Value(nil)
			require.False(e.t, diags.HasErrors(), "%v", diags)
		}
		var err error
		values[name], err = convert.Convert(value, kind)
		require.NoError(e.t, err, name)
	}
	e.scope["var"] = cty.ObjectVal(values)
}

// evaluate carries a block out. It fails while something that it refers to is missing.
func (e *example) evaluate(block *hclsyntax.Block) hcl.Diagnostics {
	switch block.Type {
	case "locals":
		values, diags := e.attributes(block.Body, nil)
		e.scope["local"] = cty.ObjectVal(values)
		return diags
	case "resource":
		return e.resource(block)
	}
	return nil
}

func (e *example) resource(block *hclsyntax.Block) hcl.Diagnostics {
	kind, name := block.Labels[0], block.Labels[1]
	if e.made[kind] == nil {
		e.made[kind] = map[string]cty.Value{}
	}
	each := block.Body.Attributes["for_each"]
	if each == nil {
		values, diags := e.attributes(block.Body, nil)
		if !diags.HasErrors() {
			e.made[kind][name] = e.make(kind, values)
		}
		return diags
	}
	keys, diags := each.Expr.Value(e.context(nil))
	if diags.HasErrors() {
		return diags
	}
	instances := map[string]map[string]cty.Value{}
	for _, key := range keys.AsValueSlice() {
		values, diags := e.attributes(block.Body, map[string]cty.Value{"key": key, "value": key})
		if diags.HasErrors() {
			return diags
		}
		instances[key.AsString()] = values
	}
	all := map[string]cty.Value{}
	for _, key := range slices.Sorted(maps.Keys(instances)) {
		all[key] = e.make(kind, instances[key])
	}
	e.made[kind][name] = cty.ObjectVal(all)
	return nil
}

func (e *example) make(kind string, values map[string]cty.Value) cty.Value {
	maps.Copy(values, e.apply(kind, values))
	return cty.ObjectVal(values)
}

func (e *example) attributes(body *hclsyntax.Body, each map[string]cty.Value) (map[string]cty.Value, hcl.Diagnostics) {
	values := map[string]cty.Value{}
	for name, attribute := range body.Attributes {
		if name == "for_each" {
			continue
		}
		value, diags := attribute.Expr.Value(e.context(each))
		if diags.HasErrors() {
			return nil, diags
		}
		values[name] = value
	}
	return values, nil
}

func (e *example) context(each map[string]cty.Value) *hcl.EvalContext {
	variables := maps.Clone(e.scope)
	for kind, named := range e.made {
		variables[kind] = cty.ObjectVal(named)
	}
	if each != nil {
		variables["each"] = cty.ObjectVal(each)
	}
	return &hcl.EvalContext{Variables: variables, Functions: map[string]function.Function{
		"file": fileFunction, "replace": stdlib.ReplaceFunc, "setintersection": stdlib.SetIntersectionFunc,
	}}
}

var fileFunction = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "path", Type: cty.String}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		text, err := os.ReadFile(args[0].AsString())
		return cty.StringVal(string(text)), err
	},
})
