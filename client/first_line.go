// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxFirstLine bounds the first line of a file: the engine's sealed keys have
// some 100 characters.
const maxFirstLine = 1024

// ReadFirstLine reads the first line of an encrypted file, LF included, and not a
// byte more. It fails with [ErrMalformed] if there is none.
func ReadFirstLine(r io.ByteReader) (string, error) {
	var line strings.Builder
	for line.Len() < maxFirstLine {
		b, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return "", ErrMalformed
		}
		if err != nil {
			return "", err
		}
		line.WriteByte(b)
		if b == '\n' {
			return line.String(), nil
		}
	}
	return "", ErrMalformed
}

// parseFirstLine takes the data key out of a first line, as datakey answered it.
func parseFirstLine(line string) (string, error) {
	body, ended := strings.CutSuffix(line, "\n")
	head, _, rest, err := cutVersion(body)
	if err != nil || !ended {
		return "", ErrMalformed
	}
	key, isFile := strings.CutPrefix(rest, fileMark)
	if !isFile {
		return "", ErrMalformed
	}
	if _, err := decode64(key); err != nil {
		return "", err
	}
	return head + key, nil
}

// RewrapFirstLine brings the first line of a file to the current version. The
// rest of the file stays as it is, and so does its data key: what was sealed is
// not sealed again.
func (t *Tenant) RewrapFirstLine(ctx context.Context, line string) (string, error) {
	text, err := parseFirstLine(line)
	if err != nil {
		return "", err
	}
	out, err := t.RewrapBatch(ctx, []Ciphertext{{text, []byte(fileKeyLabel)}})
	if err != nil {
		return "", err
	}
	if out[0].Err != nil {
		return "", out[0].Err
	}
	head, _, rest, err := cutVersion(out[0].Ciphertext)
	if err != nil {
		return "", fmt.Errorf("a rewrapped %w", err)
	}
	return head + fileMark + rest + "\n", nil
}
