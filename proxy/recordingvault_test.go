// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"time"
)

// recordingVault is a Vault that agrees to everything, for tests in which a
// connection would only cost time.
type recordingVault struct {
	tenants, intervals, users []string
}

func (v *recordingVault) Login(context.Context, Realm, string) (Token, error) {
	return Token{Value: "hvs.x", Lease: time.Hour}, nil
}

func (v *recordingVault) LoginUser(_ context.Context, username, _ string) (User, error) {
	v.users = append(v.users, username)
	return User{Token: Token{Value: "hvs.x"}, Username: username}, nil
}

func (v *recordingVault) CheckToken(context.Context, string) error { return nil }

func (v *recordingVault) Rotate(_ context.Context, _, tenant, _ string) (Rotation, error) {
	v.tenants = append(v.tenants, tenant)
	return Rotation{RotationID: rotationID}, nil
}

func (v *recordingVault) Rotation(context.Context, string, string, string) (Rotation, error) {
	return Rotation{RotationID: rotationID}, nil
}

func (v *recordingVault) Settings(context.Context, string) (Settings, error) { return Settings{}, nil }

func (v *recordingVault) SetSettings(_ context.Context, _, interval string) (Settings, error) {
	v.intervals = append(v.intervals, interval)
	return Settings{RotationInterval: interval}, nil
}

func (v *recordingVault) Health(context.Context) (Health, error) { return Health{}, nil }
