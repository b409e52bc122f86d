// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package providers serves the key providers of a mount: providers/….
package providers

import (
	"context"
	"fmt"
	"regexp"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
)

// Paths are the paths of key providers, and the rooms that they need.
type Paths struct {
	*api.Operations
	Providers *provider.Store
	Keys      *keystore.Store
}

var nameField = &framework.FieldSchema{
	Type:        framework.TypeString,
	Description: "The provider's name: 1 to 64 characters of a-z 0-9 - with a letter or digit at either end.",
}

const namePattern = `providers/(?P<name>[^/]+)`

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

var answerFields = map[string]*framework.FieldSchema{
	"type":       api.Described(framework.TypeString, "awskms, azurekeyvault, gcpckms, kmsv2 or transit."),
	"parameters": api.Described(framework.TypeMap, "How it is reached; a credential is "+provider.Configured+"."),
	"socket":     api.Described(framework.TypeString, "Of type kmsv2: its Unix socket; otherwise empty."),
	"lease":      api.Described(framework.TypeInt, "Seconds that an opened KEK is used without asking again."),
	"grace":      api.Described(framework.TypeInt, "Seconds that it is used beyond that while the provider is unavailable."),
	"timeout":    api.Described(framework.TypeInt, "Seconds that a call may take."),
	"mount":      api.Described(framework.TypeBool, "Whether the mount's KEK may be under it."),
	"tenants":    api.Described(framework.TypeStringSlice, "The tenants whose own KEKs may be under it, or * alone: all."),
	"state":      api.Described(framework.TypeString, "What the latest call came to: ok, unavailable or denied."),
	"since":      api.Described(framework.TypeTime, "Since when; null: it was not called since the engine started."),
	"checked_at": api.Described(framework.TypeTime, "When the latest call ended; null: as above."),
	"last_error": api.Described(framework.TypeString, "What the provider said when a call last failed; empty: none has."),
	"in_use":     api.Described(framework.TypeInt, "How many key-encryption keys in storage are under it."),
}

// All returns the paths.
func (p *Paths) All() []*framework.Path {
	answer := api.OK("The provider.", answerFields)
	fields := map[string]*framework.FieldSchema{
		"name":       nameField,
		"type":       {Type: framework.TypeString, Description: "awskms, azurekeyvault, gcpckms, kmsv2 or transit. Needed on creation."},
		"parameters": {Type: framework.TypeMap, Description: "An object of strings, or its JSON as text, as the vault command sends parameters=@owner.json. The names are those of Vault's seal stanza of that type, but certificates are in PEM and the key of a service account in JSON: the engine reads no files. They replace those that there are. " + provider.Configured + " keeps a credential."},
		"socket":     {Type: framework.TypeString, Description: "Of type kmsv2: the Unix socket of a Kubernetes KMS v2 plugin, below the directory that the plugin's argument -provider-sockets names."},
		"lease":      {Type: framework.TypeString, Description: "How long an opened KEK, and every key opened beneath it, is used without asking again: 10s to 24h. Default: 5m."},
		"grace":      {Type: framework.TypeString, Description: "How much longer while the provider is unavailable: 0 to 24h. Default: 0."},
		"timeout":    {Type: framework.TypeString, Description: "How long a call may take: 1s to 1m. Default: 5s."},
		"tenants":    {Type: framework.TypeSlice, Description: "The IDs of the tenants whose own KEKs may be put under it, or * alone for all. They replace those that there are. Default: none."},
		"mount":      {Type: framework.TypeBool, Description: "Whether the mount's KEK may be put under it. Default: false."},
	}
	return []*framework.Path{
		{
			Pattern: "providers/?$",
			Fields:  map[string]*framework.FieldSchema{"after": api.AfterField, "limit": api.LimitField},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: p.On(p.list, "list providers", "List the key providers.", api.Listed),
			},
			HelpSynopsis:    "List the key providers.",
			HelpDescription: "A key provider is a key outside of Vault's storage that wraps key-encryption keys.",
		},
		{
			Pattern: namePattern + "$",
			Fields:  fields,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation:   p.On(p.read, "read provider", "Read a key provider.", answer),
				logical.UpdateOperation: p.On(p.write, "write provider", "Create or change a key provider.", answer),
				logical.DeleteOperation: p.On(p.delete, "delete provider", "Delete a key provider.", map[int][]framework.Response{204: {{Description: "It is gone."}}}),
			},
			HelpSynopsis: "A key outside of Vault's storage that wraps key-encryption keys.",
			HelpDescription: "Its owner can take it back: once the provider denies, what is under it does not open any more after " +
				"the lease. A write wraps and unwraps a probe and opens what the provider protects already, up to 100 KEKs; if that " +
				"fails it is 400 with the provider's word, and nothing has changed. Only the fields named change. The server's " +
				"environment, identity and files are not used. One that is in use cannot be deleted (409).",
		},
		{
			Pattern: namePattern + "/check$",
			Fields:  map[string]*framework.FieldSchema{"name": nameField},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: p.On(p.check, "check provider", "Have a key provider wrap and unwrap a probe and open a KEK that it protects, now.", answer),
			},
			HelpSynopsis:    "Have a key provider wrap and unwrap a probe and open a KEK that it protects, now.",
			HelpDescription: "Answers the provider as a read does, with the state that this came to.",
		},
	}
}

// States returns the state of each provider, by name: without its state if the providers
// cannot be listed.
func (p *Paths) States(ctx context.Context) map[string]any {
	states := map[string]any{}
	names, err := p.Providers.Names(ctx)
	if err != nil {
		return states
	}
	for _, name := range names {
		states[name] = p.Providers.State(name).Current()
	}
	return states
}

// nameOf returns the provider that the path names.
func nameOf(d *framework.FieldData) (string, error) {
	name, _ := d.Get("name").(string)
	if !validName.MatchString(name) {
		return "", api.Invalid("name must be 1 to 64 characters of a-z 0-9 - with a letter or digit at either end")
	}
	return name, nil
}

func (p *Paths) list(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	page, err := api.PageField(d)
	if err != nil {
		return nil, err
	}
	names, err := p.Providers.Names(ctx)
	return logical.ListResponse(page.OfSorted(names)), err
}

func (p *Paths) read(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := nameOf(d)
	if err != nil {
		return nil, err
	}
	return p.answer(ctx, name)
}

func (p *Paths) answer(ctx context.Context, name string) (*logical.Response, error) {
	c, err := p.Providers.Config(ctx, name)
	if err != nil {
		return nil, err
	}
	count, _, err := p.Keys.ProviderInUse(ctx, name, 0)
	if err != nil {
		return nil, fmt.Errorf("counting what is under a key provider: %w", err)
	}
	parameters := map[string]any{}
	for name, value := range c.Shown() {
		parameters[name] = value
	}
	s := p.Providers.State(name)
	return &logical.Response{Data: map[string]any{
		"type":       c.Type,
		"parameters": parameters,
		"socket":     c.Socket,
		"lease":      int64(c.Lease.Seconds()),
		"grace":      int64(c.Grace.Seconds()),
		"timeout":    int64(c.Timeout.Seconds()),
		"mount":      c.Mount,
		"tenants":    append([]string{}, c.Tenants...),
		"state":      s.Current(),
		"since":      api.Time(s.Since),
		"checked_at": api.Time(s.CheckedAt),
		"last_error": s.LastError,
		"in_use":     count,
	}}, nil
}

func (p *Paths) delete(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := nameOf(d)
	if err != nil {
		return nil, err
	}
	return nil, p.Keys.DeleteProvider(ctx, name)
}

func (p *Paths) check(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := nameOf(d)
	if err != nil {
		return nil, err
	}
	_, sealed, err := p.Keys.ProviderInUse(ctx, name, 1)
	if err != nil {
		return nil, err
	}
	if err := p.Providers.Probe(ctx, name, sealed...); err != nil && !provider.IsCallError(err) {
		return nil, err
	}
	return p.answer(ctx, name)
}
