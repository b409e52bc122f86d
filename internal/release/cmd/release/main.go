// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Command release builds a release into dist/. scripts/release.sh runs it, which says what
// is read from the environment.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/release"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// build is what is common to the platforms of a release.
type build struct {
	root, dist string
	sbomTool   string
	signingKey string
	source     release.Source
	modified   time.Time
	documents  []release.File
	written    []release.File // what the sums list
}

func run(ctx context.Context) error {
	platforms, err := release.ParsePlatforms(os.Getenv("RELEASE_PLATFORMS"))
	if err != nil {
		return err
	}
	b, err := newBuild()
	if err != nil {
		return err
	}
	if b.signingKey != "" {
		if err := errors.Join(b.source.Signable(), release.CheckKey(ctx, b.signingKey)); err != nil {
			return err
		}
	}
	if !b.source.Tagged {
		fmt.Printf("release: the tag %s does not name this commit\n", b.source.Version)
	}
	if err := os.RemoveAll(b.dist); err != nil {
		return err
	}
	if err := os.MkdirAll(b.dist, 0o755); err != nil { //nolint:gosec // what is released is public
		return err
	}
	var images []release.Image
	for _, p := range platforms {
		image, err := b.platform(ctx, p)
		if err != nil {
			return err
		}
		if p.OS == "linux" {
			images = append(images, image)
		}
	}
	if len(images) > 0 {
		if err := b.oci(images); err != nil {
			return err
		}
	}
	return b.sums(ctx)
}

func newBuild() (*build, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	b := &build{root: root, dist: filepath.Join(root, "dist"), sbomTool: os.Getenv("SBOM_TOOL"), signingKey: os.Getenv("SIGNING_KEY")}
	b.source = release.Source{Commit: os.Getenv("COMMIT"), GoVersion: runtime.Version()}
	if b.source.Version, err = release.Version(root); err != nil {
		return nil, err
	}
	b.source.Tagged = slices.Contains(strings.Fields(os.Getenv("TAGS")), b.source.Version)
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil || epoch < 0 {
		return nil, errors.New("SOURCE_DATE_EPOCH must be the seconds since 1970 that files are dated with; outside of a repository set it")
	}
	b.modified = time.Unix(epoch, 0).UTC()
	b.documents, err = release.Read(root, release.Documents...)
	return b, err
}

// platform builds and packs for one platform.
func (b *build) platform(ctx context.Context, p release.Platform) (release.Image, error) {
	fmt.Printf("release: %s/%s\n", p.OS, p.Arch)
	c := release.Contents{
		Platform: p, Source: b.source, Binaries: map[string][]byte{}, SBOMs: map[string][]byte{},
		Documents: b.documents, Signed: b.signingKey != "", Modified: b.modified,
	}
	var subjects []release.File
	for _, command := range release.Commands {
		data, sbom, err := b.binary(ctx, p, command)
		if err != nil {
			return release.Image{}, err
		}
		c.Binaries[command], c.SBOMs[command] = data, sbom
		subjects = append(subjects, release.File{Name: p.Named(command, b.source.Version), Data: data})
	}
	linked, err := p.Linked(ctx, b.root)
	if err != nil {
		return release.Image{}, err
	}
	goroot, err := p.Go(ctx, b.root, "env", "GOROOT")
	if err != nil {
		return release.Image{}, err
	}
	if c.Notices, err = release.Notices(strings.TrimSpace(string(goroot)), b.source.GoVersion, linked); err != nil {
		return release.Image{}, err
	}
	if c.Provenance, err = release.Provenance(p, b.source, subjects); err != nil {
		return release.Image{}, err
	}
	return c.Image(), b.packages(c)
}

// packages writes the archive, its provenance and, for Linux, the Debian package.
func (b *build) packages(c release.Contents) error {
	archive, err := c.Archive()
	if err != nil {
		return err
	}
	err = errors.Join(b.write(c.Name()+".tar.gz", archive), b.write(c.Name()+".provenance.json", c.Provenance))
	if err != nil || c.Platform.OS != "linux" {
		return err
	}
	deb, err := c.Debian()
	if err != nil {
		return err
	}
	return b.write(fmt.Sprintf("dek-proxy_%s_%s.deb", release.DebianVersion(b.source.Version), c.Platform.Arch), deb)
}

// binary builds a command and returns it with its SBOM.
func (b *build) binary(ctx context.Context, p release.Platform, command string) (data, sbom []byte, err error) {
	name := p.Named(command, b.source.Version)
	file := filepath.Join(b.dist, name)
	if err := p.Build(ctx, b.root, command, b.source.Commit, file); err != nil {
		return nil, nil, err
	}
	if data, err = os.ReadFile(file); err != nil { //nolint:gosec // just built
		return nil, nil, err
	}
	b.written = append(b.written, release.File{Name: name, Data: data})
	var failure bytes.Buffer
	cmd := exec.CommandContext(ctx, b.sbomTool, "bin", "-json", "-noserial", "-notimestamp", "-std", "-version", b.source.Version, file) //nolint:gosec // the pinned tool
	cmd.Stderr = &failure
	written, err := cmd.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("the SBOM of %s: %w: %s", name, err, failure.String())
	}
	if sbom, err = release.SBOM(written); err != nil {
		return nil, nil, err
	}
	return data, sbom, b.write(name+".cdx.json", sbom)
}

func (b *build) oci(images []release.Image) error {
	name := "vault-plugin-dek_" + b.source.Version + "_oci.tar"
	layout, digest, err := release.OCI("vault-plugin-dek", b.source.Version, b.source.Commit, images, b.modified)
	if err != nil {
		return err
	}
	fmt.Printf("release: %s has the image %s\n", name, digest)
	return b.write(name, layout)
}

func (b *build) write(name string, data []byte) error {
	b.written = append(b.written, release.File{Name: name, Data: data})
	return os.WriteFile(filepath.Join(b.dist, name), data, 0o644) //nolint:gosec // public
}

// sums writes the sums, and their signature if there is a key.
func (b *build) sums(ctx context.Context) error {
	slices.SortFunc(b.written, func(x, y release.File) int { return cmp.Compare(x.Name, y.Name) })
	sums := release.Sums(b.written)
	file := filepath.Join(b.dist, release.SumsFile)
	if err := os.WriteFile(file, sums, 0o644); err != nil { //nolint:gosec // public
		return err
	}
	fmt.Print(string(sums))
	if b.signingKey == "" {
		fmt.Println("release: unsigned, since SIGNING_KEY names no key")
		return nil
	}
	if err := release.Sign(ctx, b.signingKey, file); err != nil {
		return fmt.Errorf("dist/ is no release, since its archives say that they are signed: %w", err)
	}
	return nil
}
