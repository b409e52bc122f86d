// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package release_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/release"
)

var committed = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// unpacked reads a tar archive: what there is, in order, as "mode name", and the contents.
func unpacked(t *testing.T, archive []byte) (listed []string, contents map[string]string) {
	t.Helper()
	contents = map[string]string{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return listed, contents
		}
		require.NoError(t, err)
		require.Zero(t, h.Uid+h.Gid, "owner")
		require.Empty(t, h.Uname+h.Gname, "owner")
		require.True(t, h.ModTime.Equal(committed), "time")
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		listed = append(listed, h.FileInfo().Mode().String()+" "+h.Name)
		contents[h.Name] = string(data)
	}
}

func gunzip(t *testing.T, data []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	require.NoError(t, err)
	require.True(t, z.ModTime.IsZero())
	require.Empty(t, z.Name)
	plain, err := io.ReadAll(z)
	require.NoError(t, err)
	return plain
}

func TestArchivesDependOnTheirFilesAlone(t *testing.T) {
	files := []release.File{
		{Name: "docs/b.md", Data: []byte("b")},
		{Name: "run", Data: []byte("#!"), Executable: true},
		{Name: "docs/a.md", Data: nil},
		{Name: "secret", Dir: true, Private: true},
	}
	first, err := release.TarGz("name", files, committed)
	require.NoError(t, err)
	slices.Reverse(files)
	second, err := release.TarGz("name", files, committed.In(time.FixedZone("", 3600)))
	require.NoError(t, err)
	require.Equal(t, first, second)

	listed, contents := unpacked(t, gunzip(t, first))
	require.Equal(t, []string{
		"drwxr-xr-x name/", "drwxr-xr-x name/docs/", "-rw-r--r-- name/docs/a.md", "-rw-r--r-- name/docs/b.md",
		"-rwxr-xr-x name/run", "drwx------ name/secret/",
	}, listed)
	require.Equal(t, "b", contents["name/docs/b.md"])
}

func TestArchivesRefuseNames(t *testing.T) {
	for _, names := range [][]string{{""}, {"."}, {"/etc/passwd"}, {"../up"}, {"a/../../up"}, {"a//b"}, {"a", "a"}, {"a", "a/b"}} {
		var files []release.File
		for _, name := range names {
			files = append(files, release.File{Name: name})
		}
		_, err := release.Tar("", files, committed)
		require.ErrorContains(t, err, "clean relative name", "%q", names)
	}
}

// The bits of a file in the repository that decide are those that git keeps.
func TestReadTakesNoPermissionsButExecution(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "lib"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lib", "a.sh"), []byte("a"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run.sh"), []byte("r"), 0o700))
	files, err := release.Read(dir, "lib/*.sh", "run.sh")
	require.NoError(t, err)
	require.Equal(t, []release.File{{Name: "lib/a.sh", Data: []byte("a")}, {Name: "run.sh", Data: []byte("r"), Executable: true}}, files)
	_, err = release.Read(dir, "gone/*.md")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// contents are those of a small release for a platform.
func contents(p release.Platform) release.Contents {
	c := release.Contents{
		Platform: p, Source: release.Source{Version: "v1.2.3", Commit: strings.Repeat("a", 40), GoVersion: "go1.26"},
		Binaries: map[string][]byte{}, SBOMs: map[string][]byte{}, Modified: committed,
		Notices: []byte("notices"), Provenance: []byte("{}"),
	}
	for _, command := range release.Commands {
		c.Binaries[command], c.SBOMs[command] = []byte("program "+command), []byte("{}")
	}
	for _, name := range []string{"LICENSE", "CHANGELOG.md", "docs/proxy.md", "docs/api.md"} {
		c.Documents = append(c.Documents, release.File{Name: name, Data: []byte(name)})
	}
	return c
}

func TestArchiveOfAPlatform(t *testing.T) {
	c := contents(release.Platform{OS: "linux", Arch: "arm64"})
	packed, err := c.Archive()
	require.NoError(t, err)
	again, err := contents(c.Platform).Archive()
	require.NoError(t, err)
	require.Equal(t, packed, again)
	listed, files := unpacked(t, gunzip(t, packed))
	require.NotEqual(t, c.Platform.Named("vault-plugin-dek", c.Source.Version), c.Directory(), "a program that may lie beside it")
	const dir = "vault-plugin-dek-v1.2.3-linux_arm64/"
	for _, want := range []string{
		"-rwxr-xr-x vault-plugin-dek_v1.2.3", "-rwxr-xr-x dek-proxy", "-rwxr-xr-x dek", "-rw-r--r-- LICENSE",
		"-rw-r--r-- THIRD_PARTY_NOTICES.txt", "-rw-r--r-- provenance.json", "-rw-r--r-- sbom/dek-proxy.cdx.json",
		"-rw-r--r-- systemd/dek-proxy.service", "-rw-r--r-- docs/proxy.md",
	} {
		mode, name, _ := strings.Cut(want, " ")
		require.Contains(t, listed, mode+" "+dir+name)
	}
	require.Contains(t, files[dir+"SIGNATURE"], "unsigned")

	c.Signed = true
	packed, err = c.Archive()
	require.NoError(t, err)
	_, files = unpacked(t, gunzip(t, packed))
	require.NotContains(t, files[dir+"SIGNATURE"], "unsigned")
	require.Contains(t, files[dir+"SIGNATURE"], "ssh-keygen -Y verify")

	packed, err = contents(release.Platform{OS: "darwin", Arch: "arm64"}).Archive()
	require.NoError(t, err)
	require.NotContains(t, string(gunzip(t, packed)), "systemd/")
}

// What an archive has of the repository is there.
func TestDocumentsOfAnArchiveExist(t *testing.T) {
	files, err := release.Read(filepath.Join("..", ".."), release.Documents...)
	require.NoError(t, err)
	for _, f := range files {
		require.Equal(t, f.Name == "bootstrap/bootstrap.sh", f.Executable, f.Name)
	}
}

// Whoever has only the archive can follow every link in its documents.
func TestLinksWithinAnArchiveLeadSomewhere(t *testing.T) {
	files, err := release.Read(filepath.Join("..", ".."), release.Documents...)
	require.NoError(t, err)
	there := map[string]bool{}
	for _, f := range files {
		for name := f.Name; name != "."; name = path.Dir(name) {
			there[name] = true
		}
	}
	link := regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)
	links := 0
	for _, f := range files {
		if path.Ext(f.Name) != ".md" {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(string(f.Data), -1) {
			if strings.Contains(m[1], ":") { // of another place
				continue
			}
			links++
			require.True(t, there[path.Join(path.Dir(f.Name), m[1])], "%s links to %s, which the archive does not have", f.Name, m[1])
		}
	}
	require.Greater(t, links, 300)
}
