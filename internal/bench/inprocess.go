// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"

	dekclient "github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/floorplugin"
)

// inProcess is a tenant as an application has it: it encrypts in the process.
func (b *bench) inProcess(ctx context.Context, t tenant) (*dekclient.Tenant, error) {
	if err := b.fill(ctx, t); err != nil {
		return nil, err
	}
	c, err := dekclient.New(b.stack.Client(), dekclient.WithMount(t.mount))
	if err != nil {
		return nil, err
	}
	return c.Tenant(t.id)
}

// bareAEAD is Tink's XAES-256-GCM, which the envelopes have too, with a key in memory.
func bareAEAD() (tink.AEAD, error) {
	parameters, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, 12)
	if err != nil {
		return nil, err
	}
	manager := keyset.NewManager()
	id, err := manager.AddNewKeyFromParameters(parameters)
	if err == nil {
		err = manager.SetPrimary(id)
	}
	if err != nil {
		return nil, err
	}
	handle, err := manager.Handle()
	if err != nil {
		return nil, err
	}
	return aead.New(handle)
}

// clientEncrypts seals secrets in the process as envelopes, asks transit for the same, and
// has the bare AEAD seal them.
func clientEncrypts(ctx context.Context, b *bench) (err error) {
	t, err := b.inProcess(ctx, b.small())
	if err != nil {
		return err
	}
	if err := b.mountTransit(ctx); err != nil {
		return err
	}
	bare, err := bareAEAD()
	if err != nil {
		return err
	}
	envelopes := t.AEAD()
	defer func() { err = errors.Join(err, envelopes.Close()) }()
	secret, ad := []byte(floorplugin.Secret()), []byte("cards/7")
	sealing := func(a tink.AEAD) func(context.Context, int) error {
		return func(context.Context, int) error {
			_, err := a.Encrypt(secret, ad)
			return err
		}
	}
	transit := map[string]any{"plaintext": plaintext()}
	rates, err := alternate(ctx, b.rounds(3),
		b.requests(sealing(envelopes)),
		b.requests(func(ctx context.Context, _ int) error {
			return b.vault.post(ctx, transitMount+"/encrypt/bench", transit)
		}),
		b.requests(sealing(bare)))
	if err != nil {
		return err
	}
	b.set("client_encrypts_per_second", median(rates[0]))
	b.set("ratio_client_encrypt_vs_transit", medianRatio(rates[0], rates[1]))
	b.set("ratio_client_encrypt_vs_aead", medianRatio(rates[0], rates[2]))
	return nil
}

// fileBytes is the size of the file that is encrypted as a stream.
const fileBytes = 1 << 30

// fileStreams encrypts a file that is in memory to nowhere, beside Tink's stream alone.
func fileStreams(ctx context.Context, b *bench) error {
	t, err := b.inProcess(ctx, b.small())
	if err != nil {
		return err
	}
	bare, err := subtle.NewAESGCMHKDF(make([]byte, 32), "SHA256", 32, 1<<20, 0)
	if err != nil {
		return err
	}
	parts, part := b.sized(fileBytes>>20), make([]byte, 1<<20)
	writing := func(open func(context.Context) (io.WriteCloser, error)) side {
		return func(ctx context.Context) (float64, error) {
			began := time.Now()
			w, err := open(ctx)
			if err != nil {
				return 0, err
			}
			for range parts {
				if _, err := w.Write(part); err != nil {
					return 0, err
				}
			}
			err = w.Close()
			return float64(parts) / time.Since(began).Seconds(), err
		}
	}
	rates, err := alternate(ctx, b.rounds(5),
		writing(func(ctx context.Context) (io.WriteCloser, error) { return t.EncryptStream(ctx, io.Discard, nil) }),
		writing(func(context.Context) (io.WriteCloser, error) { return bare.NewEncryptingWriter(io.Discard, nil) }))
	if err != nil {
		return err
	}
	b.set("file_megabytes_per_second", median(rates[0]))
	b.set("ratio_file_vs_tink", medianRatio(rates[0], rates[1]))
	return nil
}
