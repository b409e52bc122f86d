// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"encoding/json"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// recordingVault is a Vault that agrees to everything, for tests in which a
// connection would only cost time.
type recordingVault struct {
	tenants, intervals, users []string
}

func (v *recordingVault) ID() string { return "recording" }

func (v *recordingVault) Login(context.Context, string) (vault.Token, error) {
	return vault.Token{Value: "hvs.x", Lease: time.Hour}, nil
}

func (v *recordingVault) Server() string { return "recording" }

// Identify knows the caller of a stand's goodJWT.
func (v *recordingVault) Identify(context.Context, string, string) (vault.Alias, error) {
	return vault.Alias{Name: "u", Metadata: map[string]string{"tenant_id": tenantID}}, nil
}

func (v *recordingVault) Revoke(context.Context, string) error { return nil }

func (v *recordingVault) Serves(context.Context) error { return nil }

func (v *recordingVault) LoginUser(_ context.Context, username, _ string) (vault.User, error) {
	v.users = append(v.users, username)
	return vault.User{Token: vault.Token{Value: "hvs.x"}, Username: username}, nil
}

func (v *recordingVault) Do(context.Context, string, vault.Request) (json.RawMessage, error) {
	return nil, nil
}

func (v *recordingVault) Raw(context.Context, string, string) ([]byte, error) { return nil, nil }

func (v *recordingVault) Self(context.Context, string) (vault.Self, error) { return vault.Self{}, nil }

func (v *recordingVault) Capabilities(context.Context, string, []string) (map[string][]string, error) {
	return nil, nil
}

func (v *recordingVault) CheckToken(context.Context, string) error { return nil }

func (v *recordingVault) Rotate(_ context.Context, _, tenant, _ string) (vault.Rotation, error) {
	v.tenants = append(v.tenants, tenant)
	return vault.Rotation{RotationID: rotationID}, nil
}

func (v *recordingVault) Rotation(context.Context, string, string, string) (vault.Rotation, error) {
	return vault.Rotation{RotationID: rotationID}, nil
}

func (v *recordingVault) Settings(context.Context, string) (vault.Settings, error) {
	return vault.Settings{}, nil
}

func (v *recordingVault) SetSettings(_ context.Context, _, interval string) (vault.Settings, error) {
	v.intervals = append(v.intervals, interval)
	return vault.Settings{RotationInterval: interval}, nil
}

func (v *recordingVault) Health(context.Context) (vault.Health, error) { return vault.Health{}, nil }
