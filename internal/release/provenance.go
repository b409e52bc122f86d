// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package release

import (
	"encoding/json"
	"errors"
	"strings"
)

// Source is what binaries are built from.
type Source struct {
	Version, Commit, GoVersion string
	Tagged                     bool // the version's tag names the commit
}

// Signable says why a release of the source may not be signed.
func (s Source) Signable() error {
	if s.Dirty() {
		return errors.New("the source is not that of a commit: only commits are signed")
	}
	return nil
}

// Dirty reports whether the source has changes that are not in the commit, or no commit.
func (s Source) Dirty() bool { return s.Commit == "unknown" || strings.HasSuffix(s.Commit, "-dirty") }

// Provenance says from what and how binaries of a platform were built, as a statement of
// in-toto with a predicate of SLSA. The binaries are given by name, with their content.
func Provenance(p Platform, s Source, binaries []File) ([]byte, error) {
	var subjects []any
	for _, b := range binaries {
		subjects = append(subjects, map[string]any{"name": b.Name, "digest": map[string]string{"sha256": digest(b.Data)}})
	}
	repository := "https://" + Module
	source := map[string]any{"uri": "git+" + repository}
	if !s.Dirty() {
		source["digest"] = map[string]string{"gitCommit": s.Commit}
		if s.Tagged {
			source["uri"] = "git+" + repository + "@refs/tags/" + s.Version
		}
	}
	return json.MarshalIndent(map[string]any{
		"_type":         "https://in-toto.io/Statement/v1",
		"subject":       subjects,
		"predicateType": "https://slsa.dev/provenance/v1",
		"predicate": map[string]any{
			"buildDefinition": map[string]any{
				"buildType":          repository + "/blob/main/docs/releasing.md",
				"externalParameters": map[string]any{"version": s.Version, "commit": s.Commit},
				"internalParameters": map[string]any{
					"goVersion": s.GoVersion, "flags": Flags(s.Commit), "environment": p.Environment(),
				},
				"resolvedDependencies": []any{source},
			},
			"runDetails": map[string]any{"builder": map[string]any{"id": repository + "/blob/main/scripts/release.sh"}},
		},
	}, "", "  ")
}

var errSBOM = errors.New("the tool's SBOM has not the form that is expected")

// SBOM returns the SBOM that cyclonedx-gomod has written, without the hashes of that tool,
// which differ between the machines that built it.
func SBOM(written []byte) ([]byte, error) {
	var bom map[string]any
	if err := json.Unmarshal(written, &bom); err != nil {
		return nil, errors.Join(errSBOM, err)
	}
	metadata, _ := bom["metadata"].(map[string]any)
	tools, _ := metadata["tools"].([]any)
	if bom["bomFormat"] != "CycloneDX" || len(tools) == 0 {
		return nil, errSBOM
	}
	for _, tool := range tools {
		if one, ok := tool.(map[string]any); ok {
			delete(one, "hashes")
		}
	}
	return json.MarshalIndent(bom, "", "  ")
}
