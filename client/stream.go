// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
)

// Tink's AES256_GCM_HKDF_1MB.
const (
	streamHash    = "SHA256"
	streamKeySize = 32
	streamSegment = 1 << 20
)

// ErrRotated is what closing a stream fails with if the tenant's key was rotated
// while it was written, and the lease of its data key has ended. The stream is
// whole. Before it is stored its first line must be brought to the current
// version with [Tenant.RewrapFirstLine], as a report of what is stored may not
// have seen it.
var ErrRotated = errors.New("the tenant's key was rotated while the stream was written: rewrap its first line before it is stored")

// fileKey is the data key of one file while it is read or written.
type fileKey struct {
	tenant *Tenant
	now    clock
	text   string        // dek:v<version>:<key>
	lease  time.Duration // bounds each opening of it
	end    instant
}

// EncryptStream returns a writer that encrypts to w what is written to it. w gets
// the first line at once. The stream is whole only when Close has returned without
// an error; Close does not close w. To read it, the same associatedData is needed.
//
// Once the lease of the data key has ended, Vault is asked for it again, and then each
// time that the bound of an opened key has passed. If Vault refuses, nothing more is sealed.
func (t *Tenant) EncryptStream(ctx context.Context, w io.Writer, associatedData []byte) (io.WriteCloser, error) {
	return t.encryptStream(ctx, w, associatedData, systemClock)
}

func (t *Tenant) encryptStream(ctx context.Context, w io.Writer, associatedData []byte, now clock) (io.WriteCloser, error) {
	start := now()
	key, err := t.DataKey(ctx, DataKeyRequest{Bits: 8 * streamKeySize, AssociatedData: []byte(fileKeyLabel)})
	if err != nil {
		return nil, err
	}
	defer clear(key.Plaintext)
	head, _, rest, err := cutVersion(key.Ciphertext)
	if err != nil {
		return nil, fmt.Errorf("a data key's %w", err)
	}
	ad, aead, err := streamOf(key.Plaintext, associatedData)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, head+fileMark+rest+"\n"); err != nil {
		return nil, err
	}
	sealing, err := aead.NewEncryptingWriter(w, ad)
	if err != nil {
		return nil, err
	}
	lease := leaseSeconds(key.LeaseSeconds)
	f := fileKey{tenant: t, now: now, text: key.Ciphertext, lease: lease, end: start.add(lease)}
	return &streamWriter{sealing: sealing, ctx: ctx, key: f, leaseEnd: f.end, version: key.KeyVersion}, nil
}

// leaseSeconds is the lease of a file's key. It is not bounded by
// [DefaultMaxAge] unless the engine has no leases: the key is one file's, and is
// asked for again when it ends.
func leaseSeconds(told *int) time.Duration {
	if told == nil {
		return DefaultMaxAge
	}
	return leaseOf(*told)
}

func streamOf(key, callers []byte) (ad []byte, aead *subtle.AESGCMHKDF, err error) {
	if uint64(len(callers)) > math.MaxUint32 {
		return nil, nil, errAD
	}
	if len(key) != streamKeySize {
		return nil, nil, fmt.Errorf("a file's key has %d bytes, not %d", len(key), streamKeySize)
	}
	aead, err = subtle.NewAESGCMHKDF(key, streamHash, streamKeySize, streamSegment, 0)
	return adList(streamLabel, string(callers)), aead, err
}

type streamWriter struct {
	sealing  io.WriteCloser
	ctx      context.Context //nolint:containedctx // of the call that made the stream, which it is part of
	key      fileKey
	leaseEnd instant // of the lease that came with the key
	version  int
	closed   bool
	err      error // why the stream is not whole, and never will be
}

// Write seals p. After an error nothing more is written.
func (w *streamWriter) Write(p []byte) (n int, err error) {
	if w.err == nil && w.closed {
		return 0, io.ErrClosedPipe // and what was closed stays whole
	}
	if w.err == nil {
		w.err = w.renew()
	}
	if w.err == nil {
		n, w.err = w.sealing.Write(p)
	}
	return n, w.err
}

// renew asks Vault for the key again once it has ended. A key whose lease was 0 is for one
// text, which is this file.
func (w *streamWriter) renew() error {
	if w.key.lease == 0 || !w.key.end.reached(w.key.now()) {
		return nil
	}
	key, err := w.key.open(w.ctx)
	clear(key) // that it opens is what matters
	return err
}

// Close writes the last part. It fails with [ErrRotated] if the stream is whole,
// and its version is not the current one any more.
func (w *streamWriter) Close() error {
	if w.closed || w.err != nil {
		return w.err
	}
	w.closed = true
	if w.err = w.renew(); w.err == nil {
		w.err = w.sealing.Close()
	}
	if w.err != nil || !w.leaseEnd.reached(w.key.now()) {
		return w.err
	}
	current, err := w.key.tenant.CurrentVersion(w.ctx)
	if err != nil {
		return fmt.Errorf("asking whether the key of a long stream still holds: %w", err)
	}
	if current != w.version {
		return ErrRotated
	}
	return nil
}
