// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

// kvMount is a KV mount that secrets are read from.
type kvMount struct {
	vault   *api.Client
	mount   string // ends with a slash
	path    string // below it, without slashes around
	folder  bool   // path is not to be read as a secret
	version int    // of KV: 1 or 2
	lasting func(ctx context.Context, f func() error) error
}

var (
	errNoKV       = errors.New("MOUNT is no KV mount, version 1 or 2")
	errNothing    = errors.New("there is no secret at MOUNT/PATH, nor below it")
	errUnreadable = errors.New("its path has an empty part, or one of one or two dots, so that it cannot be asked for")
	errNoData     = errors.New("the secret has no data")
	// errDeleted is a secret whose current version is deleted or destroyed.
	errDeleted = errors.New("the current version is deleted")
)

// sourceError is a failure of the source.
type sourceError struct {
	path string
	err  error
}

func (e *sourceError) Unwrap() error { return e.err }

func (e *sourceError) Error() string {
	var answered *api.ResponseError
	if !errors.As(e.err, &answered) {
		return fmt.Sprintf("reading %s at the source: %s", e.path, e.err)
	}
	text := strings.Join(strings.Fields(strings.Join(answered.Errors, "; ")), " ")
	text = strings.TrimPrefix(text, "1 error occurred: * ")
	if text == "" {
		text = http.StatusText(answered.StatusCode)
	}
	return fmt.Sprintf("reading %s at the source: %d: %s", e.path, answered.StatusCode, text)
}

func hasStatus(err error, status int) bool {
	var answered *api.ResponseError
	return errors.As(err, &answered) && answered.StatusCode == status
}

// openKV finds the mount that the path is below, and its version.
func openKV(ctx context.Context, a *app, o *importOptions) (*kvMount, error) {
	vault, err := sourceClient(o.parallel)
	if err != nil {
		return nil, err
	}
	m := &kvMount{vault: vault, lasting: func(ctx context.Context, f func() error) error {
		return a.lasting(ctx, o.patience, mayPass, f)
	}}
	whole := strings.Trim(o.source, "/")
	var about *api.Secret
	// As the vault command asks: a token that may read something below a mount may ask this.
	err = m.lasting(ctx, func() (err error) {
		about, err = vault.Logical().ReadWithContext(ctx, "sys/internal/ui/mounts/"+whole)
		return wrapSource(whole, err)
	})
	if err != nil {
		return nil, err
	}
	if about == nil {
		return nil, errNoKV
	}
	m.mount, _ = about.Data["path"].(string)
	kind, _ := about.Data["type"].(string)
	options, _ := about.Data["options"].(map[string]any)
	switch version, _ := options["version"].(string); {
	case version == "2": // also an engine that answers as KV does
		m.version = 2
	case kind == "kv" && (version == "1" || version == ""), kind == "generic":
		m.version = 1
	default:
		return nil, errNoKV
	}
	if m.mount == "" || !strings.HasPrefix(whole+"/", m.mount) {
		return nil, errNoKV
	}
	m.path = strings.Trim(strings.TrimPrefix(whole+"/", m.mount), "/")
	m.folder = m.path == "" || strings.HasSuffix(o.source, "/")
	return m, nil
}

func wrapSource(path string, err error) error {
	if err == nil {
		return nil
	}
	return &sourceError{path, err}
}

func (m *kvMount) String() string {
	return m.vault.Address() + " " + m.vault.Namespace() + " " + m.mount + m.path
}

// list returns what a folder has: secrets, and folders with a slash at their ends.
func (m *kvMount) list(ctx context.Context, folder string) ([]string, error) {
	at := m.mount + folder
	if m.version == 2 {
		at = m.mount + "metadata/" + folder
	}
	var keys []string
	err := m.lasting(ctx, func() error {
		answer, err := m.vault.Logical().ListWithContext(ctx, strings.TrimSuffix(at, "/"))
		if err != nil {
			return wrapSource(m.mount+folder, err)
		}
		keys = nil
		if answer == nil {
			return nil
		}
		all, _ := answer.Data["keys"].([]any)
		for _, key := range all {
			if text, isText := key.(string); isText {
				keys = append(keys, text)
			}
		}
		return nil
	})
	return keys, err
}

// read reads the current version of a secret, and its custom metadata. It fails with
// errDeleted, and for a secret that is not there returns neither data nor an error.
func (m *kvMount) read(ctx context.Context, path string) (data map[string]any, metadata map[string]string, err error) {
	at := m.mount + path
	if m.version == 2 {
		at = m.mount + "data/" + path
	}
	var answer *api.Secret
	err = m.lasting(ctx, func() (err error) {
		answer, err = m.vault.Logical().ReadWithContext(ctx, at)
		return wrapSource(m.mount+path, err)
	})
	if err != nil || answer == nil {
		return nil, nil, err
	}
	if m.version == 1 {
		if answer.Data == nil {
			return nil, nil, errNoData
		}
		return answer.Data, nil, nil
	}
	about, _ := answer.Data["metadata"].(map[string]any)
	if gone, _ := about["deletion_time"].(string); answer.Data["data"] == nil && (gone != "" || about["destroyed"] == true) {
		return nil, nil, errDeleted
	}
	if data, _ = answer.Data["data"].(map[string]any); data == nil {
		return nil, nil, errNoData
	}
	custom, _ := about["custom_metadata"].(map[string]any)
	metadata = make(map[string]string, len(custom))
	for name, value := range custom {
		metadata[name], _ = value.(string)
	}
	return data, metadata, nil
}

// settle finds out whether there is a secret at the path itself. A policy that has only
// what is below it says nothing about that.
func (m *kvMount) settle(ctx context.Context) error {
	if m.folder {
		return nil
	}
	data, _, err := m.read(ctx, m.path)
	switch {
	case hasStatus(err, http.StatusForbidden) && m.tokenIsGood(ctx):
		m.folder = true
	case errors.Is(err, errDeleted), errors.Is(err, errNoData):
	case err != nil:
		return err
	default:
		m.folder = data == nil
	}
	return nil
}
