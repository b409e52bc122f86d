// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend"
)

const patternID = "ffffffff-0000-4000-8000-00000000ffff"

// pattern is the record of a tenant that the engine has made. The others are
// copies of it with other IDs and times: so their format is the engine's own.
type pattern struct {
	record []byte
	// What tells one tenant from another.
	incarnation, keyID, placementID, createdAt string
}

// open starts the engine over a storage, as Vault does.
func open(ctx context.Context, s logical.Storage) (logical.Backend, error) {
	b, err := backend.Factory(ctx, &logical.BackendConfig{
		StorageView: s, Logger: hclog.NewNullLogger(), System: logical.StaticSystemView{},
		BackendUUID: "6f2b1a6e-0000-4000-8000-000000000000",
	})
	if err != nil {
		return nil, err
	}
	return b, b.Initialize(ctx, &logical.InitializationRequest{Storage: s})
}

// request sends the engine a request and returns the answer's data.
func request(ctx context.Context, b logical.Backend, s logical.Storage, op logical.Operation, path string, data map[string]any) (map[string]any, error) {
	resp, err := b.HandleRequest(ctx, &logical.Request{
		ID: uuid.NewString(), Operation: op, Path: path, Data: data, Storage: s, DisplayName: "root",
	})
	if err == nil && resp != nil {
		err = resp.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", op, path, err)
	}
	if resp == nil {
		return nil, nil
	}
	return resp.Data, nil
}

// makePattern has the engine make a tenant in s, and takes it out again.
func makePattern(ctx context.Context, s *logical.InmemStorage) (*pattern, error) {
	b, err := open(ctx, s)
	if err != nil {
		return nil, err
	}
	defer b.Cleanup(ctx)
	if _, err := request(ctx, b, s, logical.UpdateOperation, "tenants/"+patternID, nil); err != nil {
		return nil, err
	}
	key := "tenants/" + shardName(shardOf(patternID)) + "/" + patternID
	entry, err := s.Get(ctx, key)
	if err != nil || entry == nil {
		return nil, errors.Join(err, errors.New("the engine keeps tenants elsewhere than this storage knows"))
	}
	var record struct {
		Incarnation string `json:"incarnation"`
		CreatedAt   string `json:"created_at"`
		PlacementID string `json:"placement_key_id"`
		Keys        struct {
			Versions []struct {
				KeyID string `json:"key_id"`
			} `json:"versions"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(entry.Value, &record); err != nil || len(record.Keys.Versions) != 1 {
		return nil, errors.Join(err, errors.New("the engine keeps records in another form than this storage knows"))
	}
	if err := clearTenant(ctx, s); err != nil {
		return nil, err
	}
	return &pattern{entry.Value, record.Incarnation, record.Keys.Versions[0].KeyID, record.PlacementID, record.CreatedAt}, nil
}

// clearTenant deletes what is of a single tenant.
func clearTenant(ctx context.Context, s *logical.InmemStorage) error {
	keys, err := logical.CollectKeys(ctx, s)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if strings.HasPrefix(key, "kek/") {
			continue
		}
		if err := s.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// copyFor is the record of tenant i.
func (t *pattern) copyFor(p *population, i uint32) []byte {
	inc, key, placement := p.bytes(i, "incarnation"), uuid.UUID(p.bytes(i, "key")), uuid.UUID(p.bytes(i, "placement"))
	return []byte(strings.NewReplacer(
		patternID, p.id(i),
		t.incarnation, hex.EncodeToString(inc[:]),
		t.keyID, "dek-"+key.String(),
		t.placementID, "plc-"+placement.String(),
		t.createdAt, p.rotatedAt(i).Format(time.RFC3339Nano),
	).Replace(string(t.record)))
}
