// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package release_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/release"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
)

func TestPlatforms(t *testing.T) {
	all, err := release.ParsePlatforms("")
	require.NoError(t, err)
	require.Len(t, all, 4)
	two, err := release.ParsePlatforms(" linux/arm64  darwin/amd64")
	require.NoError(t, err)
	require.Equal(t, []release.Platform{{OS: "linux", Arch: "arm64"}, {OS: "darwin", Arch: "amd64"}}, two)
	for _, text := range []string{"linux", "windows/amd64", "linux/amd64,linux/arm64", "linux/386"} {
		_, err := release.ParsePlatforms(text)
		require.ErrorContains(t, err, "a platform of a release", text)
	}
	require.Equal(t, "dek_v1.0.0_linux_arm64", two[0].Named("dek", "v1.0.0"))
}

func TestVersionIsTheSources(t *testing.T) {
	read, err := release.Version(filepath.Join("..", ".."))
	require.NoError(t, err)
	require.Equal(t, version.Version(), read)
	_, err = release.Version(t.TempDir())
	require.Error(t, err)
}

// Whoever installs a release finds its version in what is copied from the pages.
func TestPagesNameTheVersion(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "install", "*.md"))
	require.NoError(t, err)
	require.Len(t, pages, 4)
	named := regexp.MustCompile(`(?:\bv|_v|dek-proxy_)(\d+\.\d+\.\d+[-~.0-9a-z]*)`)
	for _, page := range append(pages, filepath.Join("..", "..", "terraform", "examples", "vault", "variables.tf")) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		found := named.FindAllStringSubmatch(string(text), -1)
		require.NotEmpty(t, found, page)
		for _, m := range found {
			require.Equal(t, release.DebianVersion(version.Version()), strings.TrimRight(release.DebianVersion(m[1]), "."), page)
		}
	}
}

// The image's digest is that of the index of its platforms; everything that is referred to
// is there, with its digest and size.
func TestOCILayout(t *testing.T) {
	layoutOf := func() ([]byte, string) {
		images := []release.Image{contents(release.Platforms[0]).Image(), contents(release.Platforms[1]).Image()}
		layout, digest, err := release.OCI("vault-plugin-dek", "v1.2.3", "abc", images, committed)
		require.NoError(t, err)
		return layout, digest
	}
	layout, digest := layoutOf()
	again, _ := layoutOf()
	require.Equal(t, layout, again)
	_, files := unpacked(t, layout)
	require.JSONEq(t, `{"imageLayoutVersion":"1.0.0"}`, files["oci-layout"])

	type descriptor struct {
		Digest      string
		Size        int
		Platform    struct{ OS, Architecture string }
		Annotations map[string]string
	}
	type manifest struct {
		Manifests, Layers []descriptor
		Config            descriptor
	}
	follow := func(d descriptor) string {
		blob, ok := files["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")]
		require.True(t, ok, d.Digest)
		require.Equal(t, d.Digest, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(blob))))
		require.Len(t, blob, d.Size)
		return blob
	}
	decode := func(text string) (m manifest) {
		require.NoError(t, json.Unmarshal([]byte(text), &m))
		return m
	}
	index := decode(files["index.json"])
	require.Len(t, index.Manifests, 1)
	require.Equal(t, digest, index.Manifests[0].Digest)
	require.Equal(t, "v1.2.3", index.Manifests[0].Annotations["org.opencontainers.image.ref.name"])
	platforms := decode(follow(index.Manifests[0])).Manifests
	require.Len(t, platforms, 2)
	for i, d := range platforms {
		require.Equal(t, release.Platforms[i], release.Platform{OS: d.Platform.OS, Arch: d.Platform.Architecture})
		m := decode(follow(d))
		require.Len(t, m.Layers, 1)
		plain := gunzip(t, []byte(follow(m.Layers[0])))
		require.Contains(t, follow(m.Config), fmt.Sprintf("sha256:%x", sha256.Sum256(plain)))
		listed, content := unpacked(t, plain)
		require.Equal(t, []string{"-rw-r--r-- LICENSE", "-rw-r--r-- THIRD_PARTY_NOTICES.txt", "-rwxr-xr-x vault-plugin-dek"}, listed)
		require.Equal(t, "program vault-plugin-dek", content["vault-plugin-dek"])
	}
}

func TestNoticesHaveTheLicensesOfLinkedPackages(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		file := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	write("go/LICENSE", "Go's")
	write("a/LICENSE.txt", "a's\r\nlicense")
	write("a/license.go", "package a")
	write("a/inner/COPYING", "inner's")
	write("a/unused/LICENSE", "of what is not linked")
	write("b/README", "no license")
	packages := func(listed ...string) (all []release.Package) {
		for _, text := range listed {
			var p release.Package
			require.NoError(t, json.Unmarshal([]byte(strings.ReplaceAll(text, "@", dir)), &p))
			all = append(all, p)
		}
		return all
	}
	a := `{"Dir":"@/a/inner/deep","Module":{"Path":"example.com/a","Version":"v1.0.0","Dir":"@/a"}}`
	write("a/inner/deep/deep.go", "package deep")
	notices, err := release.Notices(filepath.Join(dir, "go"), "go1.26.1", packages(a, a))
	require.NoError(t, err)
	for _, want := range []string{"Go 1.26.1: LICENSE\n\nGo's", "example.com/a v1.0.0: LICENSE.txt\n\na's\nlicense", "inner/COPYING\n\ninner's"} {
		require.Equal(t, 1, strings.Count(string(notices), want), want)
	}
	require.NotContains(t, string(notices), "not linked")
	require.NotContains(t, string(notices), "package a")

	b := `{"Dir":"@/b","Module":{"Path":"example.com/b","Version":"v1.0.0","Dir":"@/b"}}`
	_, err = release.Notices(filepath.Join(dir, "go"), "go1.26.1", packages(a, b))
	require.ErrorContains(t, err, "example.com/b v1.0.0: no license was found")
	outside := `{"Dir":"@/a2","Module":{"Path":"example.com/a","Version":"v1.0.0","Dir":"@/a"}}`
	_, err = release.Notices(filepath.Join(dir, "go"), "go1.26.1", packages(outside))
	require.ErrorContains(t, err, "lies outside")
}

func TestProvenanceNamesCommitAndFlags(t *testing.T) {
	source := release.Source{Version: "v1.2.3", Commit: "0123abcd", GoVersion: "go1.26.1"}
	text, err := release.Provenance(release.Platforms[1], source, []release.File{{Name: "dek", Data: []byte("x")}})
	require.NoError(t, err)
	for _, want := range []string{"0123abcd", "go1.26.1", "-trimpath", "GOARCH=arm64", fmt.Sprintf("%x", sha256.Sum256([]byte("x"))), "gitCommit"} {
		require.Contains(t, string(text), want)
	}
	require.NotContains(t, string(text), "refs/tags", "the commit has no tag")
	source.Tagged = true
	text, err = release.Provenance(release.Platforms[1], source, nil)
	require.NoError(t, err)
	require.Contains(t, string(text), "@refs/tags/v1.2.3")
	source.Commit += "-dirty"
	text, err = release.Provenance(release.Platforms[1], source, nil)
	require.NoError(t, err)
	require.NotContains(t, string(text), "gitCommit")
	require.NotContains(t, string(text), "refs/tags")
}

func TestCommitsAloneAreSigned(t *testing.T) {
	require.NoError(t, release.Source{Version: "v1.2.3", Commit: "0123abcd"}.Signable())
	for _, commit := range []string{"unknown", "0123abcd-dirty"} {
		require.ErrorContains(t, release.Source{Version: "v1.2.3", Commit: commit}.Signable(), "not that of a commit")
	}
}

// scripts/release.sh tells the builder which commit it is, which tags name it and which Go
// go.mod names; a file that belongs to no commit makes it dirty, also one that git ignores.
func TestScriptTellsWhatTheSourceIs(t *testing.T) {
	git := program(t, "git")
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		file := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, []byte(text), mode))
	}
	for _, name := range []string{"release.sh", "commit.sh", "tool.sh"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "scripts", name))
		require.NoError(t, err)
		write("scripts/"+name, string(text), 0o700)
	}
	write("go.mod", "module m\n\ngo 1.26.0\n\ntoolchain go1.26.7\n", 0o600)
	write("scripts/sbom/go.mod", "module sbom\n", 0o600)
	write("scripts/go", "#!/bin/sh\n[ \"$1\" != run ] || echo \"commit $COMMIT tags $TAGS by $GOTOOLCHAIN\"\n", 0o700)
	write(".gitignore", "/bin/\n/dist/\n/.dev/\n*.prof\n", 0o600)
	in := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GO=" + filepath.Join(dir, "scripts", "go"), "GIT_CONFIG_NOSYSTEM=1",
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b.c", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b.c",
		}
		out, err := cmd.Output()
		require.NoError(t, err)
		return strings.TrimSpace(string(out))
	}
	in(git, "init", "-q")
	in(git, "add", ".")
	in(git, "commit", "-q", "-m", "first")
	commit := in(git, "rev-parse", "HEAD")
	told := func() string { return in("sh", "scripts/release.sh") }
	require.Equal(t, "commit "+commit+" tags  by go1.26.7", told())
	in(git, "tag", "v1.2.3")
	for _, ours := range []string{"bin/tool", "dist/dek", ".dev/env", "notes.txt"} {
		write(ours, "", 0o600)
	}
	require.Equal(t, "commit "+commit+" tags v1.2.3 by go1.26.7", told())
	for _, stray := range []string{"cmd/dek/more.go", "docs/page/cpu.prof", "vendor/modules.txt", "main.go", "go.work"} {
		write(stray, "", 0o600)
		require.Equal(t, "commit "+commit+"-dirty tags v1.2.3 by go1.26.7", told(), stray)
		require.NoError(t, os.Remove(filepath.Join(dir, stray)))
	}
	write("scripts/sbom/go.mod", "module changed\n", 0o600)
	require.Equal(t, "commit "+commit+"-dirty tags v1.2.3 by go1.26.7", told())
}

func TestSBOMForgetsTheToolsHashes(t *testing.T) {
	cleaned, err := release.SBOM([]byte(`{"bomFormat":"CycloneDX","metadata":{"tools":[{"name":"t","hashes":[{"alg":"MD5"}]}]},"components":[]}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"bomFormat":"CycloneDX","metadata":{"tools":[{"name":"t"}]},"components":[]}`, string(cleaned))
	for _, text := range []string{"", "{}", "[]", `{"bomFormat":"CycloneDX","metadata":{"tools":{}}}`} {
		_, err := release.SBOM([]byte(text))
		require.Error(t, err, text)
	}
}

// The commands of the note in a signed archive verify what was signed, and refuse another
// key, another file and another purpose.
func TestSignatureVerifiesByTheNote(t *testing.T) {
	keygen := program(t, "ssh-keygen")
	dir := t.TempDir()
	in := func(command string) error {
		cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", command)
		cmd.Dir = dir
		return cmd.Run()
	}
	for _, key := range []string{"release-key", "other-key"} {
		require.NoError(t, exec.CommandContext(t.Context(), keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).Run())
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "archive"), []byte("content"), 0o600))
	sums := filepath.Join(dir, release.SumsFile)
	require.NoError(t, os.WriteFile(sums, release.Sums([]release.File{{Name: "archive", Data: []byte("content")}}), 0o600))
	require.NoError(t, release.Sign(t.Context(), filepath.Join(dir, "release-key"), sums))

	_, commands, _ := strings.Cut(string(release.SignatureNote(true)), ":\n\n")
	require.NoError(t, in(commands))
	require.Error(t, in(strings.ReplaceAll(commands, "release-key", "other-key")))
	require.Error(t, in(strings.ReplaceAll(commands, "-n "+release.SignatureNamespace, "-n file")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "archive"), []byte("altered"), 0o600))
	require.Error(t, in(commands))
	require.NoError(t, release.Sign(t.Context(), filepath.Join(dir, "release-key"), sums), "a signature that is there is replaced")
	require.Error(t, release.Sign(t.Context(), filepath.Join(dir, "no-key"), sums))
	for name, key := range map[string]bool{"release-key": true, "release-key.pub": true, "no-key": false, "archive": false} {
		require.Equal(t, key, release.CheckKey(t.Context(), filepath.Join(dir, name)) == nil, name)
	}
}
