// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// realmConfig is what the command line or the configuration file says of one realm.
// What is empty is as every client of Vault has it from the environment, or as the
// flags say.
type realmConfig struct {
	Address       string `mapstructure:"address"`
	CACert        string `mapstructure:"ca_cert"`
	ClientCert    string `mapstructure:"client_cert"`
	ClientKey     string `mapstructure:"client_key"`
	TLSServerName string `mapstructure:"tls_server_name"`
	Namespace     string `mapstructure:"namespace"`
	Mount         string `mapstructure:"mount"`
	AuthMount     string `mapstructure:"auth_mount"`
	Role          string `mapstructure:"role"`
	UserpassMount string `mapstructure:"userpass_mount"`
	UserClaim     string `mapstructure:"user_claim"`
	RolePrefix    string `mapstructure:"role_prefix"`
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
	return name, realmConfig{AuthMount: mount, Role: rest[colon+1:]}, nil
}

// realmConfigs are those of the configuration file, else those of the command line.
func (o *options) realmConfigs() (map[string]realmConfig, error) {
	switch {
	case o.config != "":
		return readConfig(o.config)
	case len(o.realms.byName) > 0:
		return o.realms.byName, nil
	default:
		return map[string]realmConfig{proxy.DefaultRealm: {}}, nil
	}
}

// connect makes the clients of all realms. The error names the realm and the field.
func (o *options) connect(configs map[string]realmConfig) (map[string]proxy.Realm, error) {
	byName, errs := map[string]proxy.Realm{}, []error{}
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		client, err := o.client(configs[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("realm %q: %w", name, err))
			continue
		}
		byName[name] = proxy.Realm{
			Vault: client, UserClaim: cmp.Or(configs[name].UserClaim, o.userClaim),
			RolePrefix: cmp.Or(configs[name].RolePrefix, o.rolePrefix),
		}
	}
	return byName, errors.Join(errs...)
}

func (o *options) client(realm realmConfig) (*vault.Client, error) {
	conf := api.DefaultConfig()
	if conf.Error != nil {
		return nil, fmt.Errorf("vault client configuration (%s, %s, %s, %s or another of its variables): %w",
			api.EnvVaultCACert, api.EnvVaultCAPath, api.EnvVaultClientCert, api.EnvVaultClientKey, conf.Error)
	}
	if realm.Address != "" {
		conf.Address, conf.AgentAddress = realm.Address, ""
	}
	if err := realm.configureTLS(conf); err != nil {
		return nil, err
	}
	client, err := vault.New(vault.Config{
		API: conf, Namespace: realm.Namespace, Mount: cmp.Or(realm.Mount, o.mount),
		AuthMount: realm.AuthMount, Role: realm.Role, UserpassMount: cmp.Or(realm.UserpassMount, o.userpassMount),
		UserAgent: "dek-proxy/" + version.Version(), Timeout: o.vaultTimeout,
	})
	if err != nil {
		return nil, err
	}
	return client, o.checkVault(conf, client.Server())
}

// configureTLS looks at the files itself first: the library does not say which field names
// the one that it cannot read.
func (realm *realmConfig) configureTLS(conf *api.Config) error {
	if realm.CACert != "" {
		if _, err := readPool(realm.CACert); err != nil {
			return fmt.Errorf("ca_cert: %w", err)
		}
	}
	if (realm.ClientCert == "") != (realm.ClientKey == "") {
		return errors.New("client_cert and client_key go together")
	}
	err := conf.ConfigureTLS(&api.TLSConfig{
		CACert: realm.CACert, ClientCert: realm.ClientCert, ClientKey: realm.ClientKey, TLSServerName: realm.TLSServerName,
	})
	if err != nil {
		return fmt.Errorf("client_cert and client_key: %w", err)
	}
	return nil
}

// checkVault refuses a Vault whose answers, or whose callers' tokens, others on the
// network could read or change.
func (o *options) checkVault(conf *api.Config, server string) error {
	if strings.HasPrefix(cmp.Or(conf.AgentAddress, conf.Address), "unix://") {
		return nil // an agent on this host
	}
	u, err := url.Parse(server)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return errors.New("address (or VAULT_ADDR): want an http or https URL")
	}
	if o.insecure {
		return nil
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return errors.New("address (or VAULT_ADDR): http:// to a Vault that is not on loopback needs -insecure")
	}
	if conf.TLSConfig().InsecureSkipVerify {
		return errors.New("VAULT_SKIP_VERIFY needs -insecure")
	}
	return nil
}

// isLoopback reports whether a host can be reached from this one only.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && addr.Unmap().IsLoopback())
}

// files are those that the clients of the realms read when they are made. One of them may
// be a directory.
func files(configs map[string]realmConfig, env func(string) (string, bool)) []string {
	var all []string
	for _, realm := range configs {
		all = append(all, realm.CACert, realm.ClientCert, realm.ClientKey)
	}
	for _, name := range []string{api.EnvVaultCACert, api.EnvVaultCAPath, api.EnvVaultClientCert, api.EnvVaultClientKey} {
		value, _ := env(name)
		all = append(all, value)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(file string) bool { return file == "" })
}

// stampOf changes when one of the files does, or one below a directory. A file that is not
// there has one too.
func stampOf(files ...string) string {
	var b strings.Builder
	for _, file := range files {
		// As Vault's library reads a directory: with those below it, and not those below
		// a link to another one. What cannot be read has no part in the stamp.
		_ = filepath.WalkDir(file, func(path string, _ fs.DirEntry, err error) error { // #nosec G703 -- the operator names the file
			if info, statErr := os.Stat(path); statErr == nil && err == nil { // #nosec G703
				fmt.Fprintf(&b, "%s %d %d\n", path, info.ModTime().UnixNano(), info.Size())
			}
			return nil
		})
	}
	return b.String()
}
