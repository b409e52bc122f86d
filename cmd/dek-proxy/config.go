// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/hcl"
	"github.com/mitchellh/mapstructure"
)

// readConfig reads the realms of a configuration file, in HCL or JSON:
//
//	realm "acme" {
//	  address = "https://vault.acme.example:8200"
//	  ca_cert = "/etc/dek-proxy/acme.pem"
//	}
//
// An error names the realm and the field at fault.
func readConfig(file string) (map[string]realmConfig, error) {
	raw, err := os.ReadFile(file) // #nosec G304 G703 -- the operator names the file
	if err != nil {
		return nil, fmt.Errorf("-config: %w", err)
	}
	realms, err := parseConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("-config %s: %w", file, err)
	}
	return realms, nil
}

func parseConfig(raw []byte) (map[string]realmConfig, error) {
	var top map[string]any
	if err := hcl.Unmarshal(raw, &top); err != nil {
		return nil, err
	}
	for _, field := range slices.Sorted(maps.Keys(top)) {
		if field != "realm" {
			return nil, fmt.Errorf("%s: no such field; want realm", field)
		}
	}
	// The language allows a block to be given several times, so each is a list.
	blocks, ok := top["realm"].([]map[string]any)
	if !ok || len(blocks) == 0 {
		return nil, errNoRealm
	}
	realms := map[string]realmConfig{}
	for _, block := range blocks {
		for _, name := range slices.Sorted(maps.Keys(block)) {
			if name == "" {
				return nil, errors.New("realm: a realm needs a name")
			}
			if _, twice := realms[name]; twice {
				return nil, fmt.Errorf("realm %q: given twice", name)
			}
			realm, err := parseRealmBlock(block[name])
			if err != nil {
				return nil, fmt.Errorf("realm %q: %w", name, err)
			}
			realms[name] = realm
		}
	}
	if len(realms) == 0 {
		return nil, errNoRealm
	}
	return realms, nil
}

var errNoRealm = errors.New(`realm: want at least one, such as realm "default" { … }`)

func parseRealmBlock(block any) (realmConfig, error) {
	var realm realmConfig
	bodies, ok := block.([]map[string]any)
	if !ok || len(bodies) > 1 {
		return realm, errors.New("want one block")
	}
	if len(bodies) == 0 {
		return realm, nil
	}
	// What there is no field for is told before of what type it is not.
	texts, others := map[string]string{}, []string{}
	for field, value := range bodies[0] {
		text, ok := value.(string)
		if !ok {
			others = append(others, field)
		}
		texts[field] = text
	}
	var meta mapstructure.Metadata
	if err := mapstructure.DecodeMetadata(texts, &realm, &meta); err != nil {
		return realm, err
	}
	if len(meta.Unused) > 0 {
		slices.Sort(meta.Unused)
		return realm, fmt.Errorf("%s: no such field", strings.Join(meta.Unused, ", "))
	}
	if len(others) > 0 {
		slices.Sort(others)
		return realm, fmt.Errorf("%s: must be a string", strings.Join(others, ", "))
	}
	return realm, nil
}
