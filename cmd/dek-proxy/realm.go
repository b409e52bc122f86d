// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// realmConfig is what the command line says of one realm.
type realmConfig struct {
	authMount, role string
}

// parseRealm reads "name=mount:role", as the command line takes it. The mount may
// contain slashes.
func parseRealm(s string) (string, realmConfig, error) {
	name, rest, ok := strings.Cut(s, "=")
	colon := strings.LastIndex(rest, ":")
	if !ok || name == "" || colon <= 0 || colon == len(rest)-1 {
		return "", realmConfig{}, fmt.Errorf("realm %q: want name=mount:role", s)
	}
	mount := strings.Trim(rest[:colon], "/")
	if mount == "" {
		return "", realmConfig{}, fmt.Errorf("realm %q: want name=mount:role", s)
	}
	return name, realmConfig{authMount: mount, role: rest[colon+1:]}, nil
}

// vaults makes the clients of all realms.
func (o *options) vaults() (map[string]proxy.Realm, error) {
	configs := o.realms.byName
	if len(configs) == 0 {
		configs = map[string]realmConfig{proxy.DefaultRealm: {}}
	}
	byName, errs := map[string]proxy.Realm{}, []error{}
	for name, realm := range configs {
		client, err := vault.New(vault.Config{
			Mount: o.mount, AuthMount: realm.authMount, Role: realm.role,
			UserpassMount: o.userpassMount, Timeout: o.vaultTimeout,
			UserAgent: "dek-proxy/" + version.Version(),
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("realm %q: %w", name, err))
			continue
		}
		byName[name] = proxy.Realm{Vault: client}
	}
	return byName, errors.Join(errs...)
}
