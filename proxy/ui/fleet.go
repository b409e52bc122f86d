// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// fleetPart is how many tenants a part of the fleet has.
const fleetPart = 50

// overview is a tenant among many.
type overview struct {
	TenantID       string     `json:"tenant_id"`
	DisplayName    string     `json:"display_name"`
	State          string     `json:"state"`
	CurrentVersion int64      `json:"current_version"`
	LastRotatedAt  *time.Time `json:"last_rotated_at"`
	NextRotationAt *time.Time `json:"next_rotation_at"`
	Overdue        bool       `json:"overdue"`
	RotationPaused bool       `json:"rotation_paused"`
	RotationID     string     `json:"rotation_id"`
	RotationStatus string     `json:"rotation_status"`
	KeyProvider    string     `json:"key_provider"`
	Error          string     `json:"error"`
}

type fleetAnswer struct {
	Tenants []overview `json:"tenants"`
	KeyAges []struct {
		From    int64  `json:"from_days"`
		To      *int64 `json:"to_days"`
		Tenants int64  `json:"tenants"`
	} `json:"key_ages"`
	DueByWeek []struct {
		From    *time.Time `json:"from"`
		To      *time.Time `json:"to"`
		Tenants int64      `json:"tenants"`
	} `json:"due_by_week"`
}

// status is the part of the engine's status that the page shows.
type status struct {
	Tenants         int64             `json:"tenants"`
	Complete        bool              `json:"index_complete"`
	Active          int64             `json:"rotations_active"`
	Failed          int64             `json:"rotations_failed"`
	Overdue         int64             `json:"overdue"`
	Paused          int64             `json:"paused"`
	PausedTenants   []string          `json:"paused_tenants"`
	PausedOverdue   int64             `json:"paused_overdue"`
	Blocked         int64             `json:"blocked"`
	BlockedTenants  map[string]string `json:"blocked_tenants"`
	DueWithin7Days  int64             `json:"due_within_7d"`
	OldestKeyAge    int64             `json:"oldest_key_age"`
	OldestKeyTenant string            `json:"oldest_key_tenant"`
	KEKOverdue      bool              `json:"kek_overdue"`
	EvidencePending int64             `json:"evidence_pending"`
}

// bar is one row of a histogram.
type bar struct {
	From, To string
	FromTime *time.Time
	Tenants  int64
}

type fleetPage struct {
	Status              *status
	Failed              []overview
	Tenants             []overview
	Ages, Due           []bar
	AgeMost, DueMost    int64
	Search, State, Sort string
	After               string
	States, Sorts       []string
	NextPart, FirstPart string
}

var (
	fleetStates = []string{"", "overdue", "failed", "paused", "blocked", "deleting"}
	fleetSorts  = []string{"overdue", "name", "age"}
	dueWeeks    = 8
)

// home is the fleet for those who may see it, else the person's own tenant, else the
// first view that there is, else a place to name a tenant.
func (s *site) home(v *visit) error {
	own := v.session.account.Tenant()
	// Where the JWT names none, this asks about a tenant that there is not.
	at := pathsOf(cmp.Or(own, strings.TrimPrefix(anyRotation, "rot-")))
	if err := v.learnTenant(at); err != nil {
		return err
	}
	to := ""
	for _, l := range v.nav() {
		to = cmp.Or(to, l.Path)
	}
	sees := v.may(at.dek, "read") || v.may(at.tenant, "read") || v.may(at.rotate, "update")
	if own != "" && sees && !v.may("fleet", "read") {
		to = Root + at.tenant
	}
	if to == "" {
		return v.show("find", text("find.title"), "")
	}
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}

// findTenant is the form that names one.
func (s *site) findTenant(v *visit) error {
	id := strings.ToLower(strings.TrimSpace(v.r.URL.Query().Get("id")))
	if uuidForm.MatchString(id) {
		http.Redirect(v.w, v.r, Root+"tenants/"+id, http.StatusSeeOther)
		return nil
	}
	said := ""
	if id != "" {
		said = text("find.invalid")
	}
	return v.show("find", text("find.title"), said)
}

// fleet is GET /ui/fleet.
func (s *site) fleet(v *visit) error {
	if err := v.require("fleet", "read", "status"); err != nil {
		return err
	}
	asked := v.r.URL.Query()
	data := &fleetPage{
		Search: asked.Get("search"), State: asked.Get("state"), Sort: asked.Get("sort"), After: asked.Get("after"),
		States: fleetStates, Sorts: fleetSorts,
	}
	if !slices.Contains(fleetSorts, data.Sort) {
		data.Sort = fleetSorts[0]
	}
	if !slices.Contains(fleetStates, data.State) {
		data.State = ""
	}
	var answer fleetAnswer
	var calls errgroup.Group // each looks at every tenant
	calls.Go(func() error { return v.get("fleet", data.query(fleetPart), &answer) })
	calls.Go(func() error { return v.attention(data) })
	if err := calls.Wait(); err != nil {
		return err
	}
	data.Tenants = answer.Tenants
	data.histograms(&answer)
	if len(answer.Tenants) == fleetPart {
		data.NextPart = data.link(answer.Tenants[fleetPart-1].TenantID)
	}
	if data.After != "" {
		data.FirstPart = data.link("")
	}
	return v.show("fleet", text("fleet.title"), data)
}

// attention reads the figures, and what failed.
func (v *visit) attention(data *fleetPage) error {
	if v.may("status", "read") {
		data.Status = &status{}
		if err := v.get("status", nil, data.Status); err != nil {
			return err
		}
	}
	return v.failedFirst(data)
}

// failedFirst puts the tenants whose rotation failed before the others: they do not go
// on by themselves.
func (v *visit) failedFirst(data *fleetPage) error {
	if data.Search != "" || data.State != "" || data.After != "" || data.Sort != fleetSorts[0] || (data.Status != nil && data.Status.Failed == 0) {
		return nil
	}
	var answer fleetAnswer
	err := v.get("fleet", url.Values{"state": {"failed"}, "limit": {"10"}}, &answer)
	data.Failed = answer.Tenants
	return err
}

func (p *fleetPage) query(limit int) url.Values {
	q := url.Values{"sort": {p.Sort}, "limit": {strconv.Itoa(limit)}}
	for name, value := range map[string]string{"search": p.Search, "state": p.State, "after": p.After} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

func (p *fleetPage) link(after string) string {
	at := *p
	at.After = after
	q := at.query(0)
	q.Del("limit")
	return Root + "fleet?" + q.Encode()
}

func (p *fleetPage) histograms(answer *fleetAnswer) {
	for _, a := range answer.KeyAges {
		b := bar{From: strconv.FormatInt(a.From, 10), Tenants: a.Tenants}
		if a.To != nil {
			b.To = strconv.FormatInt(*a.To, 10)
		}
		p.Ages, p.AgeMost = append(p.Ages, b), max(p.AgeMost, a.Tenants)
	}
	for i, d := range answer.DueByWeek {
		if i > dueWeeks {
			break
		}
		p.Due, p.DueMost = append(p.Due, bar{FromTime: d.From, Tenants: d.Tenants}), max(p.DueMost, d.Tenants)
	}
}
