// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package release

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"
)

// Media types of the OCI image specification.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Image is a program for a platform, with the other files of its layer.
type Image struct {
	Platform Platform
	Program  []byte
	Files    []File
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *ociPlatform      `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type ociPlatform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        *descriptor       `json:"config,omitempty"`
	Layers        []descriptor      `json:"layers,omitempty"`
	Manifests     []descriptor      `json:"manifests,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type config struct {
	Created time.Time `json:"created"`
	ociPlatform
	Config struct {
		Entrypoint []string
		Labels     map[string]string
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// layout collects the blobs of an OCI image layout.
type layout struct{ files []File }

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (l *layout) add(mediaType string, data []byte) descriptor {
	sum := digest(data)
	blob := File{Name: "blobs/sha256/" + sum, Data: data}
	if !slices.ContainsFunc(l.files, func(f File) bool { return f.Name == blob.Name }) {
		l.files = append(l.files, blob)
	}
	return descriptor{MediaType: mediaType, Digest: "sha256:" + sum, Size: len(data)}
}

func (l *layout) addJSON(mediaType string, v any) (descriptor, error) {
	data, err := json.Marshal(v)
	return l.add(mediaType, data), err
}

// OCI returns a tar archive of an OCI image layout, with one image of several platforms,
// and the image's digest. At the root of each platform's file system is the program name.
func OCI(name, version, commit string, images []Image, modified time.Time) (archive []byte, imageDigest string, err error) {
	l := &layout{}
	labels := map[string]string{
		"org.opencontainers.image.title": name, "org.opencontainers.image.version": version,
		"org.opencontainers.image.revision": commit, "org.opencontainers.image.source": "https://" + Module,
		"org.opencontainers.image.licenses": "MPL-2.0",
	}
	index := manifest{SchemaVersion: 2, MediaType: typeIndex, Annotations: labels}
	for _, image := range images {
		d, err := l.image(name, image, labels, modified)
		if err != nil {
			return nil, "", err
		}
		index.Manifests = append(index.Manifests, d)
	}
	all, err := l.addJSON(typeIndex, index)
	if err != nil {
		return nil, "", err
	}
	imageDigest = all.Digest
	all.Annotations = map[string]string{"org.opencontainers.image.ref.name": version}
	entry, err := json.Marshal(manifest{SchemaVersion: 2, MediaType: typeIndex, Manifests: []descriptor{all}})
	if err != nil {
		return nil, "", err
	}
	l.files = append(l.files,
		File{Name: "oci-layout", Data: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		File{Name: "index.json", Data: entry})
	archive, err = Tar("", l.files, modified)
	return archive, imageDigest, err
}

func (l *layout) image(name string, image Image, labels map[string]string, modified time.Time) (descriptor, error) {
	files := append([]File{{Name: name, Data: image.Program, Executable: true}}, image.Files...)
	plain, err := Tar("", files, modified)
	if err != nil {
		return descriptor{}, err
	}
	packed, err := Gzip(plain)
	if err != nil {
		return descriptor{}, err
	}
	platform := ociPlatform{Architecture: image.Platform.Arch, OS: image.Platform.OS}
	c := config{Created: modified.UTC(), ociPlatform: platform}
	c.Config.Entrypoint, c.Config.Labels = []string{"/" + name}, labels
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", []string{"sha256:" + digest(plain)}
	configBlob, err := l.addJSON(typeConfig, c)
	if err != nil {
		return descriptor{}, err
	}
	d, err := l.addJSON(typeManifest, manifest{
		SchemaVersion: 2, MediaType: typeManifest, Config: &configBlob,
		Layers: []descriptor{l.add(typeLayer, packed)},
	})
	d.Platform = &platform
	return d, err
}
