// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"context"
	"errors"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// identities is a system that knows one entity.
type identities struct {
	logical.StaticSystemView
	entity *logical.Entity
	err    error
}

func (i *identities) EntityInfo(string) (*logical.Entity, error) { return i.entity, i.err }

func TestCallersTenant(t *testing.T) {
	const tenant = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	alias := func(name, claim string) *logical.Alias {
		return &logical.Alias{Name: name, Metadata: map[string]string{"tenant_id": claim}}
	}
	for name, c := range map[string]struct {
		displayName string
		aliases     []*logical.Alias
		err         error
		status      int
	}{
		"a canonical UUID":                     {"jwt-app", []*logical.Alias{alias("app", tenant)}, nil, 200},
		"no claim":                             {"userpass-op", []*logical.Alias{{Name: "op"}}, nil, 200},
		"no alias":                             {"token", nil, nil, 200},
		"a child token, whose name is its own": {"token-ci", []*logical.Alias{alias("app", tenant)}, nil, 200},
		"any tenant":                           {"jwt-app", []*logical.Alias{alias("app", "+")}, nil, 403},
		"a pattern":                            {"jwt-app", []*logical.Alias{alias("app", "3*")}, nil, 403},
		"everything below":                     {"jwt-app", []*logical.Alias{alias("app", tenant+"/*")}, nil, 403},
		"the path of an item":                  {"jwt-app", []*logical.Alias{alias("app", tenant+"/credentials/x")}, nil, 403},
		"upper case":                           {"jwt-app", []*logical.Alias{alias("app", "3FA85F64-5717-4562-B3FC-2C963F66AFA6")}, nil, 403},
		"an empty claim":                       {"jwt-app", []*logical.Alias{alias("app", "")}, nil, 403},
		"a line break behind":                  {"jwt-app", []*logical.Alias{alias("app", tenant+"\n")}, nil, 403},
		"a second alias":                       {"jwt-app", []*logical.Alias{alias("app", tenant), alias("other", "+")}, nil, 403},
		"a name of another case":               {"jwt-App-One", []*logical.Alias{alias("app-one", tenant)}, nil, 403},
		"a name folded by Unicode":             {"jwt-\u212Aim", []*logical.Alias{alias("kim", tenant)}, nil, 403},
		"both names":                           {"jwt-App-One", []*logical.Alias{alias("app-one", tenant), alias("App-One", tenant)}, nil, 200},
		"Vault does not say":                   {"jwt-app", nil, errors.New("out of reach"), 500},
	} {
		t.Run(name, func(t *testing.T) {
			system := &identities{err: c.err}
			if c.aliases != nil {
				system.entity = &logical.Entity{ID: "entity", Aliases: c.aliases}
			}
			m := enginetest.Conditions{System: system}.Open(t, storagetest.NewDisk(), 0, storagetest.None)
			m.Start()
			defer m.Close()
			m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
			m.Must(enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("s"))
			resp, err := m.Engine.HandleRequest(context.Background(), &logical.Request{
				ID: m.RequestID(), Operation: enginetest.Read, Path: enginetest.ItemPath("a"), Storage: m.Storage,
				EntityID: "entity", DisplayName: c.displayName,
			})
			status := enginetest.Code(resp, err)
			if err != nil && status == 200 {
				status = 500
			}
			require.Equal(t, c.status, status, "%v %v", resp, err)
			if c.status != 200 {
				require.Nil(t, resp)
			}
		})
	}
}
