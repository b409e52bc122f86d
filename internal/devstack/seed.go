// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/hashicorp/vault/api"
)

// Item is a secret of a tenant as it was written.
type Item struct {
	Kind     string            `json:"kind"`
	Name     string            `json:"name"`
	Data     map[string]any    `json:"data"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// Seed creates a tenant and its items: 25 credentials, 10 API keys and 50
// secrets, as in the document's example. Names are the same every time, values
// are random. It returns what it wrote.
func (s *Stack) Seed(ctx context.Context, tenantID string) ([]Item, error) {
	client := s.Client()
	_, err := client.Logical().WriteWithContext(ctx, tenantPath(tenantID), map[string]any{"display_name": "Example tenant"})
	if err != nil {
		return nil, fmt.Errorf("create the tenant: %w", err)
	}
	items := exampleItems()
	secret, err := client.Logical().WriteWithContext(ctx, tenantPath(tenantID)+"/items", map[string]any{"items": items})
	if err != nil {
		return nil, fmt.Errorf("write the tenant's items: %w", err)
	}
	if err := eachWritten(secret, len(items)); err != nil {
		return nil, fmt.Errorf("write the tenant's items: %w", err)
	}
	return items, nil
}

// eachWritten looks for an error in the results of a request with many items,
// which is answered with 200 even if some of them were refused.
func eachWritten(secret *api.Secret, want int) error {
	if secret == nil {
		return errors.New("no results in the answer")
	}
	results, ok := secret.Data["results"].([]any)
	if !ok || len(results) != want {
		return fmt.Errorf("%d results in the answer, want %d", len(results), want)
	}
	for i, r := range results {
		result, ok := r.(map[string]any)
		if !ok {
			return fmt.Errorf("result %d is not an object", i)
		}
		if message, failed := result["error"]; failed && message != nil {
			return fmt.Errorf("item %d: %v", i, message)
		}
	}
	return nil
}

// TenantExists says whether a tenant is there.
func (s *Stack) TenantExists(ctx context.Context, tenantID string) (bool, error) {
	_, err := s.Client().Logical().ReadRawWithContext(ctx, tenantPath(tenantID))
	var response *api.ResponseError
	if errors.As(err, &response) && response.StatusCode == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

// CountSame reads every item back and counts those that are as they were
// written. The error names the first that is not, never a value.
func (s *Stack) CountSame(ctx context.Context, tenantID string, items []Item) (int, error) {
	client := s.Client()
	same := 0
	var first error
	for _, item := range items {
		err := compareItem(ctx, client, tenantID, item)
		switch {
		case err == nil:
			same++
		case first == nil:
			first = fmt.Errorf("%s %s: %w", item.Kind, item.Name, err)
		}
	}
	return same, first
}

func compareItem(ctx context.Context, client *api.Client, tenantID string, item Item) error {
	secret, err := client.Logical().ReadWithContext(ctx, tenantPath(tenantID)+"/"+item.Kind+"/"+item.Name)
	if err != nil {
		return err
	}
	if secret == nil {
		return errors.New("is not there")
	}
	// encoding/json sorts keys, so equal values are equal bytes.
	want, err := json.Marshal([]any{item.Data, item.Metadata})
	if err != nil {
		return err
	}
	got, err := json.Marshal([]any{secret.Data["data"], secret.Data["metadata"]})
	if err != nil {
		return err
	}
	if string(got) != string(want) {
		return errors.New("differs from what was written")
	}
	return nil
}

func tenantPath(tenantID string) string { return Mount + "/tenants/" + tenantID }

// exampleItems makes the items of the example tenant.
func exampleItems() []Item {
	environments := []string{"production", "staging", "test", "development", "sandbox"}
	var items []Item
	for _, service := range []string{"billing", "identity", "orders", "reporting", "search"} {
		for _, env := range environments {
			items = append(items, Item{
				Kind: "credentials", Name: service + "/" + env + "/postgres",
				Data: map[string]any{
					"username": service + "_" + env, "password": rand.Text(),
					"host": service + "-db." + env + ".example.com", "port": 5432,
				},
				Metadata: map[string]string{"owner": service + "-team", "environment": env},
			})
		}
	}
	for _, vendor := range []string{"stripe", "twilio", "sendgrid", "datadog", "github"} {
		for _, mode := range []string{"live", "test"} {
			items = append(items, Item{
				Kind: "apiKeys", Name: vendor + "/" + mode,
				Data:     map[string]any{"key": "sk_" + mode + "_" + rand.Text()},
				Metadata: map[string]string{"vendor": vendor},
			})
		}
	}
	for _, purpose := range []string{
		"session-cookie-key", "webhook-signing-key", "oauth-client-secret", "smtp-password", "backup-passphrase",
		"saml-signing-secret", "csrf-token-key", "cache-password", "queue-password", "license-key",
	} {
		for _, env := range environments {
			items = append(items, Item{
				Kind: "secrets", Name: env + "/" + purpose,
				Data:     map[string]any{"value": rand.Text() + rand.Text()},
				Metadata: map[string]string{"environment": env},
			})
		}
	}
	return items
}
