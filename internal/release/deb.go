// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package release

import (
	"bytes"
	"compress/gzip"
	"crypto/md5" //nolint:gosec // what dpkg verifies installed files by
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

const debianMaintainer = "The vault-plugin-dek authors <noreply@vault-plugin-dek.invalid>"

//go:embed debian
var debian embed.FS

// Debian returns the Debian package of the proxy for a platform: the binary, its systemd
// unit, its settings, and documents beside them.
func Debian(p Platform, version string, proxy []byte, documents []File, modified time.Time) ([]byte, error) {
	files := []File{
		{Name: "usr/bin/dek-proxy", Data: proxy, Executable: true},
		{Name: "etc/dek-proxy/credentials", Dir: true, Private: true},
	}
	for name, source := range map[string]string{
		"usr/lib/systemd/system/dek-proxy.service":  "dek-proxy.service",
		"etc/dek-proxy/dek-proxy.env":               "dek-proxy.env",
		"usr/share/doc/dek-proxy/examples/tls.conf": "tls.conf",
		"usr/share/doc/dek-proxy/copyright":         "copyright",
	} {
		data, err := debian.ReadFile("debian/" + source)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Name: name, Data: data})
	}
	for _, f := range documents {
		files = append(files, File{Name: path.Join("usr/share/doc/dek-proxy", f.Name), Data: f.Data})
	}
	changelog, err := debianChangelog(version, modified)
	if err != nil {
		return nil, err
	}
	files = append(files, File{Name: "usr/share/doc/dek-proxy/changelog.gz", Data: changelog})
	control, err := debianControl(p, version, files)
	if err != nil {
		return nil, err
	}
	controlTar, err := TarGz("", control, modified)
	if err != nil {
		return nil, err
	}
	dataTar, err := TarGz("", files, modified)
	if err != nil {
		return nil, err
	}
	return ar(modified, member{"debian-binary", []byte("2.0\n")}, member{"control.tar.gz", controlTar}, member{"data.tar.gz", dataTar}), nil
}

// debianChangelog returns the package's changelog in Debian's format, compressed as Debian's
// policy has it (sections 4.4 and 12.7). It has the one version, and names what has the rest.
func debianChangelog(version string, modified time.Time) ([]byte, error) {
	var compressed bytes.Buffer
	w, err := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(w, "dek-proxy (%s) unstable; urgency=medium\n\n  * Release %s: CHANGELOG.md of the repository says what is new.\n\n -- %s  %s\n",
		DebianVersion(version), version, debianMaintainer, modified.UTC().Format(time.RFC1123Z))
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return compressed.Bytes(), nil
}

// DebianVersion is a version as Debian orders it: v1.2.3-rc.1 comes before v1.2.3.
func DebianVersion(version string) string {
	return strings.Replace(strings.TrimPrefix(version, "v"), "-", "~", 1)
}

func debianControl(p Platform, version string, files []File) ([]File, error) {
	template, err := debian.ReadFile("debian/control")
	if err != nil {
		return nil, err
	}
	var size int
	var sums []string
	for _, f := range files {
		if f.Dir {
			continue
		}
		size += len(f.Data)
		sums = append(sums, fmt.Sprintf("%x  %s\n", md5.Sum(f.Data), f.Name)) //nolint:gosec // as above
	}
	slices.SortFunc(sums, func(a, b string) int { return strings.Compare(a[34:], b[34:]) })
	filled := strings.NewReplacer("@VERSION@", DebianVersion(version), "@ARCH@", p.Arch, "@MAINTAINER@", debianMaintainer, "@SIZE@", fmt.Sprint((size+1023)/1024)).Replace(string(template))
	control := []File{
		{Name: "control", Data: []byte(filled)},
		{Name: "md5sums", Data: []byte(strings.Join(sums, ""))},
		{Name: "conffiles", Data: []byte("/etc/dek-proxy/dek-proxy.env\n")},
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		data, err := debian.ReadFile("debian/" + script)
		if err != nil {
			return nil, err
		}
		control = append(control, File{Name: script, Data: data, Executable: true})
	}
	return control, nil
}

// member is a file of an ar archive, whose name has at most 16 bytes.
type member struct {
	name string
	data []byte
}

// ar returns an ar archive in the common format, which a Debian package is.
func ar(modified time.Time, members ...member) []byte {
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	for _, m := range members {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8s%-10d\x60\n", m.name, modified.Unix(), 0, 0, "100644", len(m.data))
		out.Write(m.data)
		if len(m.data)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}
