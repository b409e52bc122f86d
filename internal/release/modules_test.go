// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package release

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

func readModule(t *testing.T, dir string) *modfile.File {
	t.Helper()
	path := filepath.Join("../..", dir, "go.mod")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	f, err := modfile.Parse(path, text, nil)
	require.NoError(t, err)
	return f
}

// floors are the versions in which published faults of what Vault's SDK brings along are
// mended.
var floors = map[string]string{
	"google.golang.org/grpc":       "v1.83.1",
	"github.com/jackc/pgx/v5":      "v5.9.2",
	"go.opentelemetry.io/otel":     "v1.44.0",
	"github.com/docker/docker":     "", // its line has ended with faults in it
	"github.com/aws/aws-sdk-go":    "", // its support has ended
	"github.com/Azure/go-autorest": "", // its support has ended
}

// No program links a version of a module that is known to be faulty, and every module of
// the repository names the Go version that it is built with.
func TestModulesAreMended(t *testing.T) {
	wanted := readModule(t, ".").Toolchain
	require.NotNil(t, wanted)
	for _, dir := range []string{".", "terraform", "cmd/dek-kms-pkcs11"} {
		for _, r := range readModule(t, dir).Require {
			if floor, named := floors[r.Mod.Path]; named {
				require.NotEmpty(t, floor, "%s: %s", dir, r.Mod.Path)
				require.GreaterOrEqual(t, semver.Compare(r.Mod.Version, floor), 0, "%s: %s", dir, r.Mod)
			}
		}
	}
	for _, dir := range []string{"terraform", "cmd/dek-kms-pkcs11", "test/externalsecrets", "scripts/lint", "scripts/sbom", "scripts/vault"} {
		f := readModule(t, dir)
		require.NotNil(t, f.Toolchain, dir)
		require.Equal(t, wanted.Name, f.Toolchain.Name, dir)
	}
}

// Kubernetes' client libraries are for tests alone: they stay in the module of those tests.
func TestKubernetesStaysInItsModule(t *testing.T) {
	for _, dir := range []string{".", "terraform", "cmd/dek-kms-pkcs11"} {
		for _, r := range readModule(t, dir).Require {
			for _, path := range []string{"github.com/external-secrets/", "sigs.k8s.io/controller-runtime", "k8s.io/client-go", "k8s.io/apimachinery"} {
				require.False(t, strings.HasPrefix(r.Mod.Path, path), "%s requires %s", dir, r.Mod.Path)
			}
		}
	}
}

// What the VEX document says of a module is about the version that is linked.
func TestVEXIsOfTheLinkedVersions(t *testing.T) {
	text, err := os.ReadFile("../../docs/vex.openvex.json")
	require.NoError(t, err)
	var doc struct {
		Context    string `json:"@context"`
		Statements []struct {
			Vulnerability struct{ Name string }
			Status        string
			Justification string
			Products      []struct {
				Subcomponents []struct {
					ID string `json:"@id"`
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal(text, &doc))
	require.Equal(t, "https://openvex.dev/ns/v0.2.0", doc.Context)
	require.NotEmpty(t, doc.Statements)
	linked := readModule(t, ".").Require
	for _, s := range doc.Statements {
		require.Equal(t, []string{"not_affected", "vulnerable_code_not_present"}, []string{s.Status, s.Justification}, s.Vulnerability.Name)
		for _, p := range s.Products {
			require.NotEmpty(t, p.Subcomponents)
			for _, c := range p.Subcomponents {
				require.True(t, slices.ContainsFunc(linked, func(r *modfile.Require) bool {
					return strings.HasSuffix(c.ID, "/"+r.Mod.Path+"@"+r.Mod.Version)
				}), "%s is not linked", c.ID)
			}
		}
	}
}
