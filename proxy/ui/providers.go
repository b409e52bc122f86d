// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"net/url"
	"time"
)

const providersPath = "providers"

type provider struct {
	Name      string     `json:"-"`
	Type      string     `json:"type"`
	State     string     `json:"state"`
	Since     *time.Time `json:"since"`
	CheckedAt *time.Time `json:"checked_at"`
	LastError string     `json:"last_error"`
	InUse     int64      `json:"in_use"`
}

// providers is GET /ui/providers. An engine without them has none.
func (s *site) providers(v *visit) error {
	if err := v.require(providersPath, "list"); err != nil {
		return err
	}
	names, err := v.list(providersPath, url.Values{"limit": {"100"}})
	if err != nil {
		return err
	}
	all := make([]provider, 0, len(names))
	for _, name := range names {
		one := provider{}
		err := v.get(providersPath+"/"+name, nil, &one)
		if err != nil && !isAbsent(err) {
			return err
		}
		one.Name = name
		all = append(all, one)
	}
	return v.show("providers", text("providers.title"), all)
}
