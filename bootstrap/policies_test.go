// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package bootstrap_test checks what lies in this directory, which is no Go.
package bootstrap_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// application is the one policy that reaches items.
const application = "application"

// tenantTemplate is what Vault replaces by the tenant of who is asking.
const tenantTemplate = "{{identity.entity.aliases.@JWT_ACCESSOR@.metadata.tenant_id}}"

// itemPaths are paths at which items, plaintexts or data keys are had, each of
// another form.
var itemPaths = []string{
	"tenants/T/credentials", "tenants/T/apiKeys", "tenants/T/secrets",
	"tenants/T/credentials/a", "tenants/T/apiKeys/a/b", "tenants/T/secrets/a/b/c/d/e/f",
	"tenants/T/items", "tenants/T/items/read",
	"tenants/T/encrypt", "tenants/T/decrypt", "tenants/T/rewrap", "tenants/T/datakey/plaintext", "tenants/T/datakey/wrapped",
	"data/T/credentials/a", "data/T/secrets/a/b/c", "metadata/T/secrets", "metadata/T/secrets/a/b", "subkeys/T/apiKeys/a/b",
	"delete/T/secrets/a", "undelete/T/secrets/a", "destroy/T/secrets/a",
}

// lint says what is wrong with a policy.
func lint(name, text string) ([]string, error) {
	var policy struct {
		Path map[string]struct{ Capabilities []string }
	}
	if err := hcl.Decode(&policy, text); err != nil {
		return nil, err
	}
	if len(policy.Path) != strings.Count(text, "\npath ") {
		return nil, fmt.Errorf("%d paths are read of the text: is one there twice, or does a line not begin with it", len(policy.Path))
	}
	var faults []string
	for path, rule := range policy.Path {
		fault := lintPath(name, path)
		if fault == "" && (len(rule.Capabilities) == 0 || slices.Contains(rule.Capabilities, "sudo")) {
			fault = "has no capability, or sudo"
		}
		if fault != "" {
			faults = append(faults, path+" "+fault)
		}
	}
	return faults, nil
}

// lintPath says what is wrong with a path, and nothing if it is right.
func lintPath(policy, path string) string {
	path, ours := strings.CutPrefix(path, "@MOUNT@/")
	if !ours {
		return "is not of the mount"
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		switch {
		case segment == "" || segment == "." || segment == "..":
			return "has a segment that names nothing"
		case strings.Contains(segment, "{{") && segment != tenantTemplate:
			return "has a template that is not a whole segment, or not the tenant"
		case segment == tenantTemplate && (i == 0 || i == len(segments)-1):
			return "begins or ends in a template"
		case segment == tenantTemplate && strings.ContainsAny(segments[i+1], "*+{"):
			return "has no literal segment behind its template"
		case strings.Contains(segment, "*") && (segment != "*" || i < len(segments)-1):
			return "has a * that is not the whole of its last segment"
		case strings.Contains(segment, "+") && segment != "+":
			return "has a + beside other characters"
		}
	}
	if policy == application {
		if !slices.Contains(segments, tenantTemplate) {
			return "is not bound to a tenant"
		}
		return ""
	}
	for _, item := range itemPaths {
		if matches(segments, strings.Split(item, "/")) {
			return "reaches " + item
		}
	}
	return ""
}

// matches says whether a path of a policy reaches a request's path, as Vault
// does it. A template stands for one segment here.
func matches(pattern, path []string) bool {
	for i, segment := range pattern {
		if segment == "*" {
			return len(path) > i
		}
		if len(path) <= i || segment != "+" && segment != tenantTemplate && segment != path[i] {
			return false
		}
	}
	return len(pattern) == len(path)
}

func TestPolicies(t *testing.T) {
	files, err := filepath.Glob("policies/*.hcl")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		faults, err := lint(strings.TrimSuffix(filepath.Base(file), ".hcl"), string(text))
		require.NoError(t, err, file)
		assert.Empty(t, faults, file)
	}
}

// TestPoliciesRefused has one policy for each rule, which breaks it.
func TestPoliciesRefused(t *testing.T) {
	const tenant = "@MOUNT@/tenants/" + tenantTemplate
	for _, c := range []struct{ policy, path, capability, want string }{
		{"any", tenant + "/dek", "read", ""},
		{"any", tenant, "read", "ends in a template"},
		{"any", tenantTemplate + "/dek", "read", "is not of the mount"},
		{"any", "@MOUNT@/" + tenantTemplate + "/dek", "read", "begins or ends in a template"},
		{"any", tenant + "/+", "read", "no literal segment"},
		{"any", tenant + "/*", "read", "no literal segment"},
		{application, tenant + "/*", "read", "no literal segment"},
		{"any", tenant + "x/dek", "read", "not a whole segment"},
		{"any", "@MOUNT@/tenants/{{identity.entity.name}}/dek", "read", "not the tenant"},
		{"any", tenant + "/dek/x*", "read", "a * that is not the whole"},
		{"any", "@MOUNT@/*/dek", "read", "a * that is not the whole"},
		{"any", "@MOUNT@/tenants/+x/dek", "read", "a + beside"},
		{"any", "@MOUNT@/tenants//dek", "read", "names nothing"},
		{"any", "@MOUNT@/tenants/../dek", "read", "names nothing"},
		{"any", "sys/mounts", "read", "is not of the mount"},
		{"any", "@MOUNT@/config", "sudo", "sudo"},
		{"any", "@MOUNT@/tenants/+/+", "read", "reaches tenants/T/credentials"},
		{"any", "@MOUNT@/tenants/+/credentials/a", "read", "reaches tenants/T/credentials/a"},
		{"any", "@MOUNT@/tenants/*", "read", "reaches tenants/T/credentials"},
		{"any", "@MOUNT@/+/+/secrets", "list", "reaches tenants/T/secrets"},
		{"any", "@MOUNT@/+/+/+/+/+", "read", "reaches"},
		{"any", "@MOUNT@/data/+/secrets/*", "read", "reaches data/T/secrets"},
		{"any", tenant + "/secrets/*", "read", "reaches tenants/T/secrets"},
		{application, "@MOUNT@/tenants/+/secrets/*", "read", "not bound to a tenant"},
	} {
		faults, err := lint(c.policy, fmt.Sprintf("# text\npath %q {\n  capabilities = [%q]\n}\n", c.path, c.capability))
		require.NoError(t, err, c.path)
		if c.want == "" {
			assert.Empty(t, faults, c.path)
			continue
		}
		require.Len(t, faults, 1, c.path)
		assert.Contains(t, faults[0], c.want)
	}
	_, err := lint("any", "\npath \"@MOUNT@/config\" {\n  capabilities = [\"read\"]\n}\n  path \"@MOUNT@/*\" {\n  capabilities = [\"read\"]\n}\n")
	assert.ErrorContains(t, err, "2 paths")
}
