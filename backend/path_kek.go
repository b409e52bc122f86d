// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"github.com/hashicorp/vault/sdk/framework"

	kekpaths "github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api/kek"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kekrotation"
)

func (b *backend) kekPaths() []*framework.Path {
	r := &kekpaths.Rooms{Operations: b.Operations, Engine: func() *kekrotation.Engine { return b.kek }, Now: b.now}
	return r.Paths()
}
