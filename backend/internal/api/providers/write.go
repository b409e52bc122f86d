// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package providers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

func (p *Paths) write(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, err := nameOf(d)
	if err != nil {
		return nil, err
	}
	var was *provider.Config
	c, err := p.Providers.Config(ctx, name)
	switch {
	case err == nil:
		now := c
		was = &now
	case errors.Is(err, provider.ErrNotFound), storage.IsDamaged(err):
		c = provider.Config{Lease: provider.DefaultLease, Timeout: provider.DefaultTimeout}
	default:
		return nil, err
	}
	if c, err = withFields(c, d); err != nil {
		return nil, err
	}
	if err := p.Providers.Check(c); err != nil {
		return nil, invalid(err)
	}
	err = p.Keys.PutProvider(ctx, name, c, was)
	if provider.IsCallError(err) {
		return nil, api.Refuse(http.StatusBadRequest, "nothing has changed: %s", err)
	}
	if err != nil {
		return nil, err
	}
	p.Providers.Tried(name)
	p.Log().Info("key provider changed", "provider", name, "created", was == nil, "request_id", req.ID)
	resp, err := p.answer(ctx, name)
	if err == nil && !c.OpensTwoAtOnce() {
		resp.AddWarning(fmt.Sprintf("timeout (%s) is half of lease (%s) or more: a move between two key-encryption keys under "+
			"providers needs both open at once, and may not end while calls are slow; lease should be more than twice timeout",
			c.Timeout, c.Lease))
	}
	return resp, err
}

// invalid is an error of settings without the word that tells what it is.
func invalid(err error) error {
	if text, ok := provider.Rule(err); ok {
		return api.Invalid("%s", text)
	}
	return err
}

// withFields returns c with the fields that a request names.
func withFields(c provider.Config, d *framework.FieldData) (provider.Config, error) {
	for _, f := range []struct {
		name string
		to   *string
	}{{"type", &c.Type}, {"socket", &c.Socket}} {
		text, named, err := api.TextField(d, f.name)
		if err != nil {
			return c, err
		}
		if named {
			*f.to = text
		}
	}
	for _, f := range []struct {
		name string
		to   *time.Duration
	}{{"lease", &c.Lease}, {"grace", &c.Grace}, {"timeout", &c.Timeout}} {
		if err := durationField(d, f.name, f.to); err != nil {
			return c, err
		}
	}
	mount, named, err := api.BoolField(d, "mount")
	if err != nil {
		return c, err
	}
	if named {
		c.Mount = mount
	}
	if c.Tenants, err = tenantsField(d, c.Tenants); err != nil {
		return c, err
	}
	if c.Type != "kmsv2" && c.Socket != "" {
		return c, api.Invalid("socket is for type kmsv2")
	}
	parameters, named, err := parametersField(d)
	if err != nil || !named {
		return c, err
	}
	if c, err = c.With(parameters); err != nil {
		return c, invalid(err)
	}
	return c, nil
}

// tenantsField returns the tenants that the request names, else those that there are. The
// vault command sends one as a string, several in one with commas.
func tenantsField(d *framework.FieldData, are []string) ([]string, error) {
	raw, named := d.Raw["tenants"]
	if !named || raw == nil {
		return are, nil
	}
	if text, ok := raw.(string); ok {
		if text == "" {
			return nil, nil
		}
		return strings.Split(text, ","), nil
	}
	list, ok := raw.([]any)
	if !ok {
		return nil, api.Invalid("tenants must be a list of strings")
	}
	tenants := make([]string, 0, len(list))
	for _, value := range list {
		id, ok := value.(string)
		if !ok {
			return nil, api.Invalid("tenants must be a list of strings")
		}
		tenants = append(tenants, id)
	}
	return tenants, nil
}

// durationField sets to to a field, if the request names it. Vault's duration strings
// are taken, and whole seconds. An empty text is refused: it would mean 0.
func durationField(d *framework.FieldData, field string, to *time.Duration) error {
	raw, named := d.Raw[field]
	if !named || raw == nil {
		return nil
	}
	value, err := parseutil.ParseDurationSecond(raw)
	if text, isText := raw.(string); err != nil || isText && text == "" || value%time.Second != 0 || value < 0 {
		return api.Invalid("%s must be a duration, such as 5m or a whole number of seconds", field)
	}
	*to = value
	return nil
}

// Decoded returns a request in which parameters that came as text are the object whose JSON
// the text is: the vault command sends parameters=@owner.json so. Text that is no object
// stays, and the framework refuses it. Every other request comes back as it is.
func Decoded(req *logical.Request) *logical.Request {
	text, ok := req.Data["parameters"].(string)
	if !ok || !strings.HasPrefix(req.Path, "providers/") {
		return req
	}
	var parameters map[string]any
	if err := json.Unmarshal([]byte(text), &parameters); err != nil || parameters == nil {
		return req
	}
	decoded := *req
	decoded.Data = maps.Clone(req.Data)
	decoded.Data["parameters"] = parameters
	return &decoded
}

// parametersField returns the parameters, if the request names them. Vault's stanza has
// numbers and yes or no without quotes in some places, so these are taken, too.
func parametersField(d *framework.FieldData) (map[string]string, bool, error) {
	raw, named := d.Raw["parameters"]
	if !named || raw == nil {
		return nil, false, nil
	}
	list, ok := raw.(map[string]any)
	if !ok {
		return nil, false, api.Invalid("parameters must be an object of strings")
	}
	parameters := make(map[string]string, len(list))
	for name, value := range list {
		switch v := value.(type) {
		case string:
			parameters[name] = v
		case bool:
			parameters[name] = map[bool]string{true: "true", false: "false"}[v]
		default:
			return nil, false, api.Invalid("parameters must be an object of strings")
		}
	}
	return parameters, true, nil
}
