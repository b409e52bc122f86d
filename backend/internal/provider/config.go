// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kms"
)

// The bounds of a provider's durations.
const (
	DefaultLease   = 5 * time.Minute
	MinLease       = 10 * time.Second
	MaxLease       = 24 * time.Hour
	MaxGrace       = 24 * time.Hour
	DefaultTimeout = 5 * time.Second
	MinTimeout     = time.Second
	MaxTimeout     = time.Minute
)

// Configured stands for a credential in answers. In a request it keeps the credential
// that there is.
const Configured = "<configured>"

// Config is what a provider is set up with.
type Config struct {
	Type       string            `json:"type"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Socket     string            `json:"socket,omitempty"` // of type kmsv2
	// Lease is how long an opened KEK may be used without asking the provider, Grace how
	// much longer while the provider is unavailable, Timeout how long a call may take.
	Lease   time.Duration `json:"lease"`
	Grace   time.Duration `json:"grace,omitempty"`
	Timeout time.Duration `json:"timeout"`
	// Mount says that the KEK of the mount may be under it, Tenants whose own KEKs may: IDs,
	// or [AllTenants] alone.
	Mount   bool     `json:"mount,omitempty"`
	Tenants []string `json:"tenants,omitempty"`
}

// AllTenants stands for every tenant.
const AllTenants = "*"

// maxTenants bounds the tenants that a provider names: an entry of storage has 512 KiB.
const maxTenants = 5000

// TenantMayUse reports whether a tenant's own KEK may be put under it.
func (c Config) TenantMayUse(tenantID string) bool {
	return slices.Contains(c.Tenants, AllTenants) || slices.Contains(c.Tenants, tenantID)
}

// Types returns the types of providers that there are.
func Types() []string { return kms.Types() }

// key says where the key is, and how it is reached.
func (c Config) key() kms.Settings {
	return kms.Settings{Type: c.Type, Parameters: c.Parameters, Socket: c.Socket}
}

// check fails with [ErrInvalid] if the settings break a rule that can be told without
// calling the provider.
func (c Config) check(in Surroundings) error {
	if err := c.checkDurations(); err != nil {
		return err
	}
	if err := c.checkTenants(); err != nil {
		return err
	}
	return kms.Check(c.key(), in.kms())
}

func (c Config) checkTenants() error {
	if len(c.Tenants) > maxTenants {
		return invalid("tenants must have at most %d IDs: %s stands for all", maxTenants, AllTenants)
	}
	for i, id := range c.Tenants {
		parsed, err := uuid.Parse(id)
		isID := err == nil && parsed.String() == id
		if !isID && (id != AllTenants || len(c.Tenants) > 1) || slices.Contains(c.Tenants[:i], id) {
			return invalid("tenants must be UUIDs in canonical lower case, each once, or %s alone", AllTenants)
		}
	}
	return nil
}

func (c Config) checkDurations() error {
	for _, d := range []struct {
		field           string
		value, min, max time.Duration
	}{
		{"lease", c.Lease, MinLease, MaxLease},
		{"grace", c.Grace, 0, MaxGrace},
		{"timeout", c.Timeout, MinTimeout, MaxTimeout},
	} {
		if d.value < d.min || d.value > d.max {
			return invalid("%s must be from %s to %s", d.field, d.min, d.max)
		}
	}
	return nil
}

// OpensTwoAtOnce reports whether two KEKs can be open at the same time however slow the calls
// are that the timeout allows: a second call must have ended before the lease that the first
// one began is over. A move of keys from one KEK under a provider to another needs both.
func (c Config) OpensTwoAtOnce() bool { return 2*c.Timeout < c.Lease }

// Shown returns the parameters as answers have them: credentials as [Configured].
func (c Config) Shown() map[string]string {
	shown := maps.Clone(c.Parameters)
	for _, name := range kms.Credentials(c.Type) {
		if _, set := shown[name]; set {
			shown[name] = Configured
		}
	}
	return shown
}

// With returns the settings with other parameters, of which those that are [Configured]
// keep the credential that c has. It fails with [ErrInvalid] if c has none.
func (c Config) With(parameters map[string]string) (Config, error) {
	parameters = maps.Clone(parameters)
	for _, name := range kms.Credentials(c.Type) {
		if parameters[name] != Configured {
			continue
		}
		kept, set := c.Parameters[name]
		if !set {
			return Config{}, invalid("%s must be given, since there is none yet", name)
		}
		parameters[name] = kept
	}
	c.Parameters = parameters
	return c, nil
}

func (c Config) sameTimes(d Config) bool {
	return c.Lease == d.Lease && c.Grace == d.Grace && c.Timeout == d.Timeout
}

// SameKey reports whether c and d lead to the same key in the same way.
func (c Config) SameKey(d Config) bool {
	return c.Type == d.Type && c.Socket == d.Socket && maps.Equal(c.Parameters, d.Parameters)
}
