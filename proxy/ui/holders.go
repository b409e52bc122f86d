// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"net/url"
	"time"
)

// holder is a place that keeps ciphertexts of a tenant.
type holder struct {
	Name          string     `json:"-"`
	Description   string     `json:"description"`
	OldestVersion int64      `json:"oldest_version"`
	ReportedAt    *time.Time `json:"reported_at"`
}

func (v *visit) readHolders(data *tenantPage, at paths) error {
	if !v.may(at.holders, "list") {
		return nil
	}
	names, err := v.list(at.holders, url.Values{"limit": {"20"}})
	if err != nil {
		return err
	}
	data.SeesHolders = true
	for _, name := range names {
		h := holder{}
		if err := v.get(at.holders+"/"+name, nil, &h); err != nil && !isAbsent(err) {
			return err
		}
		h.Name = name
		data.Holders = append(data.Holders, h)
	}
	return nil
}
