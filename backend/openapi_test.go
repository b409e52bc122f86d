// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// Every operation has a name of its own in OpenAPI, a summary and a described
// answer, and every path and field has help.
func TestEveryOperationIsDescribed(t *testing.T) {
	m := enginetest.NewMount(t)
	defer m.Close()
	for _, p := range m.Engine.Paths {
		require.NotEmpty(t, p.HelpSynopsis, p.Pattern)
		require.NotEmpty(t, p.HelpDescription, p.Pattern)
		for line := range strings.Lines(p.HelpDescription) {
			require.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), api.HelpColumns, p.Pattern)
		}
		for name, f := range p.Fields {
			require.NotEmpty(t, f.Description, "%s: %s", p.Pattern, name)
		}
		for op, h := range p.Operations {
			require.NotEmpty(t, h.Properties().Summary, "%s %s", op, p.Pattern)
			require.NotEmpty(t, h.Properties().Responses, "%s %s", op, p.Pattern)
		}
	}

	resp, err := m.Call(logical.HelpOperation, "", nil)
	require.NoError(t, err)
	encoded, err := json.Marshal(resp.Data["openapi"])
	require.NoError(t, err)
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	require.NoError(t, json.Unmarshal(encoded, &doc))
	require.NotEmpty(t, doc.Paths)
	seen := map[string]string{}
	for path, methods := range doc.Paths {
		for method, raw := range methods {
			var op struct{ OperationID string }
			if json.Unmarshal(raw, &op) != nil || op.OperationID == "" {
				continue
			}
			require.Regexp(t, `^dek-[a-z]+(-[a-z]+)*$`, op.OperationID, "%s %s", method, path)
			require.Empty(t, seen[op.OperationID], "%s is %s %s, too", op.OperationID, method, path)
			seen[op.OperationID] = path
		}
	}
	for _, id := range []string{"dek-rotate-key", "dek-read-item", "dek-write-tenant", "dek-encrypt", "dek-read-rotation-settings"} {
		require.Contains(t, seen, id)
	}
}

// The documents name every field that a request takes or an answer has.
func TestDocumentsNameEveryField(t *testing.T) {
	m := enginetest.NewMount(t)
	defer m.Close()
	var documents strings.Builder
	files, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		documents.Write(text)
	}
	names := map[string]string{}
	for _, p := range m.Engine.Paths {
		for name := range p.Fields {
			names[name] = p.Pattern
		}
		for _, h := range p.Operations {
			for _, responses := range h.Properties().Responses {
				for _, r := range responses {
					for name := range r.Fields {
						names[name] = p.Pattern
					}
				}
			}
		}
	}
	require.Greater(t, len(names), 100)
	missing := map[string]string{}
	for name, path := range names {
		if strings.HasPrefix(name, "http_") {
			continue // how a plugin tells Vault of a raw answer
		}
		quoted := regexp.MustCompile("`(?:[^`\n]*[^`\na-z_])?" + name + "(?:[^`\na-z_][^`\n]*)?`")
		if !quoted.MatchString(documents.String()) {
			missing[name] = path
		}
	}
	require.Empty(t, missing, "fields that no document names, with a path of each")
}
