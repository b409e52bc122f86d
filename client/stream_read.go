// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"bufio"
	"context"
	"errors"
	"io"
)

// DecryptStream returns a reader of what EncryptStream has encrypted to r. Before
// the end of the stream each part that it returns is authentic, and in its place;
// that nothing is missing is known only at io.EOF. A stream that was changed or
// cut off fails with [ErrDecrypt]. When the time that a key may be kept has
// passed, Vault is asked for it again.
func (t *Tenant) DecryptStream(ctx context.Context, r io.Reader, associatedData []byte) (io.Reader, error) {
	return t.decryptStream(ctx, r, associatedData, systemClock)
}

func (t *Tenant) decryptStream(ctx context.Context, r io.Reader, associatedData []byte, now clock) (io.Reader, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	line, err := ReadFirstLine(buffered)
	if err != nil {
		return nil, err
	}
	text, err := parseFirstLine(line)
	if err != nil {
		return nil, err
	}
	f := fileKey{tenant: t, now: now, text: text, lease: DefaultMaxAge}
	key, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	ad, aead, err := streamOf(key, associatedData)
	if err != nil {
		return nil, err
	}
	source := &source{r: buffered}
	opening, err := aead.NewDecryptingReader(source, ad)
	if err != nil {
		return nil, source.reason()
	}
	return &streamReader{r: opening, source: source, ctx: ctx, key: f}, nil
}

// open asks Vault for the key.
func (f *fileKey) open(ctx context.Context) ([]byte, error) {
	start := f.now()
	answer, err := f.tenant.batch(ctx, "decrypt", []Ciphertext{{f.text, []byte(fileKeyLabel)}}, 1)
	if err != nil {
		return nil, err
	}
	r := &answer.Results[0]
	if err := r.err("decrypt"); err != nil {
		return nil, err
	}
	lease := min(f.lease, DefaultMaxAge)
	for _, told := range []*int{r.Lease, answer.Lease} {
		if told != nil && *told > 0 { // a lease of 0 is for one file, however long it is
			lease = min(lease, leaseOf(*told))
		}
	}
	f.end = start.add(lease)
	return r.Plaintext, nil
}

// source remembers why reading failed, to tell it from a stream that does not
// open.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (s *source) reason() error {
	if s.err != nil {
		return s.err
	}
	return ErrDecrypt
}

type streamReader struct {
	r      io.Reader
	source *source
	ctx    context.Context //nolint:containedctx // of the call that made the stream, which it is part of
	key    fileKey
	err    error
}

func (r *streamReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.key.end.reached(r.key.now()) {
		key, err := r.key.open(r.ctx)
		if err != nil {
			r.err = err
			return 0, err
		}
		clear(key) // that it opens is what matters
	}
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.source.reason()
	}
	r.err = err
	return n, err
}
