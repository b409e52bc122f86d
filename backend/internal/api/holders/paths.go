// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package holders has the paths of the places that keep ciphertexts of a tenant, and of
// what they report to hold.
package holders

import (
	"context"
	"net/http"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/holders"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Rooms has what the paths need. The engine is asked for when a request comes: it is made
// after the paths are. Duration parses a field, and refuses what is above most.
type Rooms struct {
	*api.Operations

	Engine   func() *holders.Engine
	Duration func(field string, raw any, most time.Duration) (time.Duration, error)
}

var nameField = &framework.FieldSchema{
	Type: framework.TypeString,
	Description: "The holder's name: 1 to 256 characters of A-Z a-z 0-9 . _ @ : - with / between parts. " +
		"It does not end with the part report after another.",
}

var holderAnswer = map[string]*framework.FieldSchema{
	"name":           api.Described(framework.TypeString, "The holder's name."),
	"description":    api.Described(framework.TypeString, "What it is, for people."),
	"backups_kept":   api.Described(framework.TypeInt64, "Seconds for which backups of the place are kept."),
	"oldest_version": {Type: framework.TypeInt, Description: "The least version that it last reported to hold; null: it has not reported, and holds every version that the tenant ever had."},
	"counts":         api.Described(framework.TypeMap, "How many ciphertexts of each version it last reported, by version."),
	"scan_started_at": {
		Type:        framework.TypeTime,
		Description: "When the latest scan began by which something is known to be gone; null: nothing is.",
	},
	"reported_at": {Type: framework.TypeTime, Description: "When it last reported; null: it has not."},
	"reported_by": {Type: framework.TypeMap, Description: "Who reported: id, name and email; null: nobody has."},
}

// Paths returns the paths. The longer ones come first: a name may have slashes.
func (r *Rooms) Paths() []*framework.Path {
	return []*framework.Path{r.startPath(), r.reportPath(), r.listPath(), r.holderPath()}
}

func (r *Rooms) listPath() *framework.Path {
	return &framework.Path{
		Pattern: api.TenantPattern + "/holders/?$",
		Fields:  map[string]*framework.FieldSchema{"tenant_id": api.TenantIDField, "after": api.AfterField, "limit": api.LimitField},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: r.On(r.list, "list holders", "List the places that keep ciphertexts of a tenant.", api.Listed),
		},
		HelpSynopsis:    "List the places that keep ciphertexts of a tenant.",
		HelpDescription: "By name, sorted. With limit, in parts: after is the last key of the part before.",
	}
}

func (r *Rooms) holderPath() *framework.Path {
	answer := api.OK("The holder.", holderAnswer)
	return &framework.Path{
		Pattern: api.TenantPattern + `/holders/(?P<name>[\s\S]+)$`,
		Fields: map[string]*framework.FieldSchema{
			"tenant_id":   api.TenantIDField,
			"name":        nameField,
			"description": {Type: framework.TypeString, Description: "What it is, for people."},
			"backups_kept": {
				Type: framework.TypeDurationSecond,
				Description: "How long backups of the place are kept: 0 to 3650d. External keys are kept for so much longer " +
					"after all holders have reported. Default: 0.",
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   r.On(r.read, "read holder", "Read a holder.", answer),
			logical.UpdateOperation: r.On(r.write, "write holder", "Name a place that keeps ciphertexts, or change what is said of it.", answer),
			logical.DeleteOperation: r.On(r.delete, "delete holder", "Say that nothing is held at a place any more.",
				map[int][]framework.Response{http.StatusNoContent: {{Description: "The holder is deleted."}}}),
		},
		HelpSynopsis: "A place that keeps ciphertexts of a tenant: a table, a bucket.",
		HelpDescription: "Once dek/config says follow_holders=true, the external key of a version goes when every holder has " +
			"reported that it keeps nothing of it. One that has not reported keeps every version. A tenant may have 64.",
	}
}

func (r *Rooms) startPath() *framework.Path {
	return &framework.Path{
		Pattern: api.TenantPattern + `/holders/(?P<name>[\s\S]+)/report/start$`,
		Fields:  map[string]*framework.FieldSchema{"tenant_id": api.TenantIDField, "name": nameField},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: r.On(r.start, "start scan", "Begin to search a place for what it holds.",
				api.OK("When the scan began.", map[string]*framework.FieldSchema{
					"scan_started_at": api.Described(framework.TypeTime, "The time to report with."),
				})),
		},
		HelpSynopsis: "Begin to search a place for what it holds.",
		HelpDescription: "Ask before the search, and report with scan_started_at what it found. The report counts for a " +
			"version if the search began data_key_lease (config) or more after the version was deactivated. The latest 8 " +
			"times of a holder are known.",
	}
}

func (r *Rooms) reportPath() *framework.Path {
	return &framework.Path{
		Pattern: api.TenantPattern + `/holders/(?P<name>[\s\S]+)/report$`,
		Fields: map[string]*framework.FieldSchema{
			"tenant_id":      api.TenantIDField,
			"name":           nameField,
			"oldest_version": {Type: framework.TypeInt, Description: "The least version that is still held, the current one if nothing is."},
			"counts":         {Type: framework.TypeMap, Description: "How many ciphertexts of each version are held: an object of versions and numbers, of 64 at most."},
			"scan_started_at": {
				Type: framework.TypeString,
				Description: "What report/start answered before the place was searched. Without it nothing is known to be gone " +
					"by the report.",
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: r.On(r.report, "report holdings", "Report what a place holds.", api.OK("The holder.", holderAnswer)),
		},
		HelpSynopsis: "Report what a place holds.",
		HelpDescription: "The latest report counts. One that names a lower version than before takes it back that versions " +
			"are gone, as long as their keys are there.",
	}
}

// answer is a holder as answers have it.
func (r *Rooms) answer(ctx context.Context, h tenant.Holder) *logical.Response {
	data := map[string]any{
		"name":            h.Name,
		"description":     h.Description,
		"backups_kept":    int64(h.BackupsKept / time.Second),
		"oldest_version":  nil,
		"counts":          countsAnswer(h.Counts),
		"scan_started_at": api.Time(h.ScanStartedAt),
		"reported_at":     api.Time(h.ReportedAt),
		"reported_by":     nil,
	}
	if !h.ReportedAt.IsZero() {
		data["oldest_version"], data["reported_by"] = h.Oldest, r.Person(ctx, h.ReportedBy)
	}
	return &logical.Response{Data: data}
}
