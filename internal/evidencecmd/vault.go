// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/api"
	"github.com/transparency-dev/formats/proof"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
)

// maxFile bounds a file of the log: a bundle has at most 256 entries of 16 KiB.
const maxFile = 8 << 20

// vaultSource reads a log from the engine.
type vaultSource struct {
	client *api.Client
	mount  string
}

// Source returns the log of the engine that is mounted at mount.
func Source(client *api.Client, mount string) verify.Source {
	return &vaultSource{client: client, mount: mount}
}

// Read reads the files of tlog-tiles as they are, and makes the others of what the
// engine's paths answer.
func (v *vaultSource) Read(ctx context.Context, name string) ([]byte, error) {
	size, isOlder := strings.CutPrefix(name, "checkpoints/")
	switch {
	case name == verify.FileKeys:
		return v.keys(ctx)
	case name == verify.FileCosigned:
		return v.cosigned(ctx)
	case isOlder:
		return v.older(ctx, size)
	}
	return v.raw(ctx, name)
}

func (v *vaultSource) path(parts ...string) string {
	return path.Join(append([]string{v.mount, "evidence"}, parts...)...)
}

func (v *vaultSource) raw(ctx context.Context, name string) ([]byte, error) {
	response, err := v.client.Logical().ReadRawWithContext(ctx, v.path("tlog", name))
	if response != nil {
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode == http.StatusNotFound {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errors.New("the answer is too large")
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return data, nil
}

// read reads a path of the engine. What is not there is [fs.ErrNotExist].
func (v *vaultSource) read(ctx context.Context, query map[string][]string, parts ...string) (map[string]any, error) {
	secret, err := v.client.Logical().ReadWithDataWithContext(ctx, v.path(parts...), query)
	var refused *api.ResponseError
	switch {
	case errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound, err == nil && secret == nil:
		return nil, fmt.Errorf("%s: %w", path.Join(parts...), fs.ErrNotExist)
	case err != nil:
		return nil, err
	}
	return secret.Data, nil
}

func (v *vaultSource) keys(ctx context.Context) ([]byte, error) {
	data, err := v.read(ctx, nil, "key")
	if err != nil {
		return nil, err
	}
	vkey, _ := data["vkey"].(string)
	lines := vkey + "\n"
	previous, _ := data["previous"].([]any)
	for _, older := range previous {
		lines += fmt.Sprint(older) + "\n"
	}
	return []byte(lines), nil
}

func (v *vaultSource) cosigned(ctx context.Context) ([]byte, error) {
	data, err := v.read(ctx, nil, "checkpoint")
	if err != nil {
		return nil, err
	}
	if text, _ := data["cosigned"].(string); text != "" {
		return []byte(text), nil
	}
	return nil, fmt.Errorf("cosigned: %w", fs.ErrNotExist)
}

// older returns the checkpoint of a size, which is in the proof of its last entry.
func (v *vaultSource) older(ctx context.Context, size string) ([]byte, error) {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n < 1 {
		return nil, fmt.Errorf("checkpoint of size %q: %w", size, fs.ErrNotExist)
	}
	index := strconv.FormatInt(n-1, 10)
	data, err := v.read(ctx, map[string][]string{"size": {size}}, "entries", index)
	if err != nil {
		return nil, err
	}
	text, _ := data["proof"].(string)
	var p proof.TLogProof
	if err := p.Unmarshal([]byte(text)); err != nil {
		return nil, fmt.Errorf("the proof of entry %s: %w", index, err)
	}
	return p.Checkpoint, nil
}

// cosign sends what a witness signed.
func (v *vaultSource) cosign(ctx context.Context, lines string) error {
	_, err := v.client.Logical().WriteWithContext(ctx, v.path("cosign"), map[string]any{"cosignature": lines})
	return err
}

// witnesses returns the verifier keys of the witnesses whose cosignatures are kept.
func (v *vaultSource) witnesses(ctx context.Context) ([]string, error) {
	data, err := v.read(ctx, nil, "witnesses")
	if err != nil {
		return nil, err
	}
	listed, _ := data["witnesses"].([]any)
	vkeys := make([]string, 0, len(listed))
	for _, vkey := range listed {
		vkeys = append(vkeys, fmt.Sprint(vkey))
	}
	return vkeys, nil
}
