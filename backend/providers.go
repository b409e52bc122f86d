// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
)

// buildProviders makes the rooms of key providers, and of the keys that may be under one.
func (b *backend) buildProviders(in provider.Surroundings) {
	in.Changed = func(name string, now provider.State) {
		if now.State == provider.StateOK {
			b.Logger().Info("key provider answers", "provider", name)
			return
		}
		b.Logger().Warn("key provider does not open keys", "provider", name, "state", now.State, "said", now.LastError)
	}
	in.Denial = func(name, kekID string) {
		b.jobs.Run(jobs.Job{
			ID: "evidence/denial/" + name + "/" + map[bool]string{true: "ends", false: "begins"}[kekID == ""], FailureMessage: "logging a key provider's denial failed",
			Step: func(ctx context.Context) (done, progressed bool, err error) {
				err = b.providers.LogDenial(ctx, name, kekID)
				return err == nil, false, err
			},
		})
	}
	b.providers = provider.NewStore(b.mount, b.now, in)
	b.keys = keystore.NewStore(b.mount, b.now, b.providers)
	b.providerPaths.Providers, b.providerPaths.Keys = b.providers, b.keys
}

// unlock waits for the key provider that a handler's error names, and returns nil if the
// handler is to be called again.
func (b *backend) unlock(ctx context.Context, err error) error {
	var locked *keystore.LockedError
	if !errors.As(err, &locked) {
		return err
	}
	return b.keys.Unlock(ctx, locked.Place, provider.Request)
}

// tendProviders renews providers' credentials and forgets keys whose lease has ended.
func (b *backend) tendProviders() {
	b.keys.DropOver()
	b.jobs.RunFunc("providers/renew", b.providers.Renew, nil)
}
