// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package release

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Documents are the files of the repository that an archive has, as patterns.
var Documents = []string{
	"LICENSE", "README.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md",
	"docs/*.md", "docs/*.json", "docs/*.svg", "docs/install/*.md", "docs/providers/*.md", "docs/monitoring/*", "docs/page/*",
	"docs/design/*.md", "docs/adr/*.md", "docs/model/README.md", "docs/model/*.py",
	"bootstrap/README.md", "bootstrap/bootstrap.sh", "bootstrap/lib/*.sh", "bootstrap/policies/*.hcl",
	"cmd/dek-kms-pkcs11/README.md", "terraform/README.md", "terraform/examples/*/*.tf",
}

// Contents is what an archive of a platform is made of.
type Contents struct {
	Platform   Platform
	Source     Source
	Binaries   map[string][]byte // by command
	SBOMs      map[string][]byte // by command
	Documents  []File            // as they lie in the repository
	Notices    []byte
	Provenance []byte
	Signed     bool // the sums will be signed
	Modified   time.Time
}

// Name is the archive's, without .tar.gz.
func (c Contents) Name() string { return c.Platform.Named("vault-plugin-dek", c.Source.Version) }

// Directory is the one in the archive. A program of the release has the archive's name: it
// and what was unpacked may lie beside each other, and the sums list the program.
func (c Contents) Directory() string {
	return fmt.Sprintf("vault-plugin-dek-%s-%s_%s", c.Source.Version, c.Platform.OS, c.Platform.Arch)
}

// PluginName is the plugin's file in an archive, which is also its name in a plugin
// directory: a new version comes to lie beside the old one there.
func PluginName(version string) string { return "vault-plugin-dek_" + version }

// Archive returns the archive, as a compressed tar archive.
func (c Contents) Archive() ([]byte, error) {
	files := slices.Clone(c.Documents)
	for command, data := range c.Binaries {
		name := command
		if command == "vault-plugin-dek" {
			name = PluginName(c.Source.Version)
		}
		files = append(files, File{Name: name, Data: data, Executable: true})
	}
	for command, data := range c.SBOMs {
		files = append(files, File{Name: "sbom/" + command + ".cdx.json", Data: data})
	}
	if c.Platform.OS == "linux" {
		for _, name := range []string{"dek-proxy.service", "dek-proxy.env", "tls.conf"} {
			data, err := debian.ReadFile("debian/" + name)
			if err != nil {
				return nil, err
			}
			files = append(files, File{Name: "systemd/" + name, Data: data})
		}
	}
	files = append(files,
		File{Name: "THIRD_PARTY_NOTICES.txt", Data: c.Notices},
		File{Name: "provenance.json", Data: c.Provenance},
		File{Name: "SIGNATURE", Data: SignatureNote(c.Signed)})
	return TarGz(c.Directory(), files, c.Modified)
}

// Debian returns the Debian package of the proxy.
func (c Contents) Debian() ([]byte, error) {
	documents := []File{
		{Name: "THIRD_PARTY_NOTICES.txt", Data: c.Notices},
		{Name: "dek-proxy.cdx.json", Data: c.SBOMs["dek-proxy"]},
	}
	for _, f := range c.Documents {
		if slices.Contains([]string{"LICENSE", "CHANGELOG.md", "docs/proxy.md"}, f.Name) {
			documents = append(documents, File{Name: strings.TrimPrefix(f.Name, "docs/"), Data: f.Data})
		}
	}
	return Debian(c.Platform, c.Source.Version, c.Binaries["dek-proxy"], documents, c.Modified)
}

// Image returns what the OCI layout has of the platform: the plugin alone.
func (c Contents) Image() Image {
	image := Image{Platform: c.Platform, Program: c.Binaries["vault-plugin-dek"], Files: []File{{Name: "THIRD_PARTY_NOTICES.txt", Data: c.Notices}}}
	for _, f := range c.Documents {
		if f.Name == "LICENSE" {
			image.Files = append(image.Files, f)
		}
	}
	return image
}
