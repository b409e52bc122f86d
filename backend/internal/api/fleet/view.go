// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/dueindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/schedule"
)

// defaultLimit is how many tenants an answer has if the request names no limit.
const defaultLimit = 100

var (
	states = []string{string(dueindex.Overdue), string(dueindex.Failed), string(dueindex.Paused), string(dueindex.Blocked), string(dueindex.Deleting)}
	sorts  = []string{string(dueindex.ByDueDate), string(dueindex.ByName), string(dueindex.ByAge)}
)

func (r *Rooms) fleetPath() *framework.Path {
	return &framework.Path{
		Pattern: "fleet$",
		Fields: map[string]*framework.FieldSchema{
			"search": {Type: framework.TypeString, Query: true, Description: "What a tenant's ID or display name begins with; case is ignored."},
			"state":  {Type: framework.TypeString, Query: true, Description: "Only tenants that are overdue, failed, paused, blocked or deleting."},
			"sort": {
				Type:        framework.TypeString,
				Query:       true,
				Description: "overdue (the most overdue first, then by due date; the default), name, or age (the oldest key first).",
			},
			"after": {Type: framework.TypeString, Query: true, Description: "Answer what follows this tenant: the last of the part before."},
			"limit": {Type: framework.TypeInt, Query: true, Description: "Answer at most so many tenants: 100 by default, at most 1,000."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: r.On(r.readFleet, "read fleet", "Read how the fleet stands, tenant by tenant.",
				api.OK("A part of the tenants, and figures of all.", map[string]*framework.FieldSchema{
					"tenants": api.Described(framework.TypeSlice, "Each with tenant_id and what key_info has in the list of tenants."),
					"key_ages": api.Described(framework.TypeSlice, "How many active keys of the whole fleet have which age: "+
						"from_days, to_days (null: no end), tenants."),
					"due_by_week": api.Described(framework.TypeSlice, "How many tenants of the whole fleet the schedule rotates when, but for the "+
						"jitter: from (null: due already), to (null: later than a year), tenants."),
				})),
		},
		HelpSynopsis: "The fleet, tenant by tenant, for people to look at.",
		HelpDescription: "Searched, filtered and sorted in memory, whatever the number of tenants; only the records of the " +
			"tenants that are answered are read. A part ends the list if it has fewer tenants than limit.",
	}
}

func (r *Rooms) readFleet(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	q, err := query(d)
	if err != nil {
		return nil, err
	}
	f, err := r.Schedule().Fleet(ctx, q)
	if err != nil {
		return nil, err
	}
	tenants := make([]map[string]any, 0, len(f.Tenants))
	for _, o := range f.Tenants {
		described := info(o)
		described["tenant_id"] = o.TenantID
		tenants = append(tenants, described)
	}
	resp := &logical.Response{Data: map[string]any{
		"tenants":     tenants,
		"key_ages":    keyAges(f),
		"due_by_week": dueByWeek(f),
	}}
	if !f.Complete {
		resp.AddWarning("not every tenant's record has been read since the engine started: tenants are missing")
	}
	return resp, nil
}

func query(d *framework.FieldData) (q dueindex.Query, err error) {
	if q.Search, _, err = api.TextField(d, "search"); err != nil {
		return q, err
	}
	state, err := oneOf(d, "state", states)
	if err != nil {
		return q, err
	}
	sort, err := oneOf(d, "sort", sorts)
	if err != nil {
		return q, err
	}
	if sort == "" {
		sort = sorts[0]
	}
	p, err := api.PageField(d)
	if err != nil {
		return q, err
	}
	if p.Limit > maxDetailed {
		return q, api.Invalid("limit must be at most %d", maxDetailed)
	}
	if p.Limit == 0 {
		p.Limit = defaultLimit
	}
	q.State, q.Sort, q.After, q.Limit = dueindex.Filter(state), dueindex.Sort(sort), p.After, p.Limit
	return q, nil
}

// oneOf returns one of the values that a field may have, empty if it is not named.
func oneOf(d *framework.FieldData, field string, values []string) (string, error) {
	value, _, err := api.TextField(d, field)
	if err != nil || value == "" || slices.Contains(values, value) {
		return value, err
	}
	return "", api.Invalid("%s must be one of %s", field, strings.Join(values, ", "))
}

func keyAges(f *schedule.Fleet) []map[string]any {
	ages := make([]map[string]any, len(f.KeyAges))
	from := 0
	for i, tenants := range f.KeyAges {
		ages[i] = map[string]any{"from_days": from, "to_days": nil, "tenants": tenants}
		if i < len(dueindex.AgeBounds) {
			from = dueindex.AgeBounds[i]
			ages[i]["to_days"] = from
		}
	}
	return ages
}

func dueByWeek(f *schedule.Fleet) []map[string]any {
	due := make([]map[string]any, len(f.DueByWeek))
	var from time.Time
	for i, tenants := range f.DueByWeek {
		to := f.AsOf.AddDate(0, 0, 7*i)
		if i == len(due)-1 {
			to = time.Time{}
		}
		due[i] = map[string]any{"from": api.Time(from), "to": api.Time(to), "tenants": tenants}
		from = to
	}
	return due
}
