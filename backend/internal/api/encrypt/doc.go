// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package encrypt has the paths that encrypt what lies elsewhere: encrypt, decrypt,
// rewrap and datakey, one text at a time or in batches, as Vault's transit engine does.
package encrypt

import (
	"github.com/hashicorp/vault/sdk/framework"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/encryption"
)

type paths struct {
	*api.Operations
	engine *encryption.Engine
	touch  func()
}

// Paths returns the paths. touch is called for each request before the engine is:
// rotations yield to requests.
func Paths(o *api.Operations, engine *encryption.Engine, touch func()) []*framework.Path {
	p := &paths{o, engine, touch}
	return append(p.encryptPaths(), p.datakeyPaths()...)
}
