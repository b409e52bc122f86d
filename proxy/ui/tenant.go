// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// historyPart is how many rotations a part of the history has. Each is a call.
	historyPart = 10
	// callsAtOnce bounds the calls of Vault that one view makes at a time.
	callsAtOnce = 4
)

// tenantPage is what the person may see of a tenant: each part is nil or empty where
// the policies refuse it, or the tenant is being deleted.
type tenantPage struct {
	ID, Name  string
	Tenant    *tenantAnswer
	DEK       *dekAnswer
	Timeline  *timeline
	Rotations []rotation
	// SeesRotations and the like tell what is empty from what is not shown.
	SeesRotations bool
	NextPart      string
	Running       *rotation
	Actions       []string // of the running rotation, or of the latest that failed
	ActOn         string
	Holders       []holder
	SeesHolders   bool
	Evidence      []entrySummary
	SeesEvidence  bool
	MayRotate     bool
	MayChange     bool
	MayDelete     bool
	// RestorableUntil is until when a deletion now could be undone, nil if it is not known.
	RestorableUntil *time.Time
	MayRestore      bool
	Intervals       []string
	// MayDestroyUnseen: the person may destroy versions, and not see them.
	MayDestroyUnseen bool
	// FormKey makes a form that is sent twice start one rotation.
	FormKey string
}

// Deleting reports whether the tenant is being deleted.
func (p *tenantPage) Deleting() bool { return p.Tenant != nil && p.Tenant.State == "deleting" }

// anyRotation stands for a rotation where capabilities are asked for: policies name
// all of a tenant's, or none.
const anyRotation = "rot-00000000-0000-4000-8000-000000000000"

// paths are the engine's paths of a tenant.
type paths struct{ tenant, dek, rotate, rotations, act, destroy, restore, holders, evidence, entry string }

func pathsOf(id string) paths {
	at := "tenants/" + id
	return paths{
		tenant: at, dek: at + "/dek", rotate: at + "/dek/rotate", rotations: at + "/dek/rotations",
		act: at + "/dek/rotations/" + anyRotation + "/pause", destroy: at + "/dek/versions/1/destroy",
		restore: at + "/restore", holders: at + "/holders", evidence: at + "/evidence", entry: at + "/evidence/0",
	}
}

func (v *visit) learnTenant(at paths) error {
	return v.learn(v.r.Context(), configPath, at.tenant, at.dek, at.rotate, at.rotations, at.act, at.destroy, at.restore, at.holders, at.evidence, at.entry)
}

// tenant is GET /ui/tenants/{tenant}.
func (s *site) tenant(v *visit) error {
	id, err := v.part("tenant", uuidForm)
	if err != nil {
		return err
	}
	at := pathsOf(id)
	if err := v.learnTenant(at); err != nil {
		return err
	}
	data := &tenantPage{ID: id, Name: id}
	if err := v.readTenant(data, at); err != nil {
		return err
	}
	return v.show("tenant", data.Name, data)
}

func (v *visit) readTenant(data *tenantPage, at paths) error {
	if err := v.readRecord(data, at); err != nil {
		return err
	}
	parts := []func(*tenantPage, paths) error{v.readWindow, v.readKeys, v.readRotations, v.readHolders, v.readEvidence}
	if data.Deleting() {
		parts = parts[4:] // Vault has the evidence only
	}
	for _, read := range parts {
		if err := read(data, at); err != nil {
			return err
		}
	}
	if !data.Deleting() {
		data.MayRotate = v.may(at.rotate, "update") && data.Running == nil
		data.MayChange = v.may(at.tenant, "update") && data.Tenant != nil
		data.MayDestroyUnseen = data.DEK == nil && v.may(at.destroy, "update")
		data.Intervals, data.FormKey = intervals, rand.Text()
	}
	if data.isEmpty() {
		return &Refusal{Status: http.StatusForbidden, Reason: text("error.policies")}
	}
	return nil
}

// isEmpty reports whether there is nothing that the person may see or do.
func (p *tenantPage) isEmpty() bool {
	sees := p.Tenant != nil || p.DEK != nil || p.SeesRotations || p.SeesEvidence
	return !sees && !p.MayRotate && !p.MayDelete && !p.MayDestroyUnseen
}

func (v *visit) readRecord(data *tenantPage, at paths) error {
	data.MayDelete = v.may(at.tenant, "delete")
	if !v.may(at.tenant, "read") {
		return nil
	}
	data.Tenant = &tenantAnswer{}
	if err := v.get(at.tenant, nil, data.Tenant); err != nil {
		return err
	}
	if data.Tenant.DisplayName != "" {
		data.Name = data.Tenant.DisplayName
	}
	data.MayRestore = data.Deleting() && v.may(at.restore, "update")
	data.MayDelete = data.MayDelete && !data.Deleting()
	return nil
}

// defaultWindow is the engine's, where the organization requires no longer one.
const defaultWindow = 168 * time.Hour

// readWindow finds out until when a deletion could be undone.
func (v *visit) readWindow(data *tenantPage, _ paths) error {
	if !data.MayDelete || !v.may(configPath, "read") {
		return nil
	}
	var config struct {
		MinDeletionWindow int64 `json:"min_deletion_window"`
	}
	if err := v.get(configPath, nil, &config); err != nil {
		return err
	}
	until := v.site.views.now().Add(max(defaultWindow, time.Duration(config.MinDeletionWindow)*time.Second))
	data.RestorableUntil = &until
	return nil
}

func (v *visit) readKeys(data *tenantPage, at paths) error {
	if !v.may(at.dek, "read") {
		return nil
	}
	data.DEK = &dekAnswer{}
	if err := v.get(at.dek, nil, data.DEK); err != nil {
		return err
	}
	for i := range data.DEK.Versions {
		one := &data.DEK.Versions[i]
		one.Destroyable = one.State == "deactivated" && v.may(at.destroy, "update")
	}
	data.Timeline = newTimeline(data.DEK.Versions, v.site.views.now())
	return nil
}

func (v *visit) readRotations(data *tenantPage, at paths) error {
	if !v.may(at.rotations, "list") {
		return nil
	}
	q := url.Values{"limit": {strconv.Itoa(historyPart)}}
	after := v.r.URL.Query().Get("after")
	if after != "" && rotationForm.MatchString(after) {
		q.Set("after", after)
	}
	ids, err := v.list(at.rotations, q)
	if err != nil {
		return err
	}
	data.SeesRotations = true
	data.Rotations = make([]rotation, len(ids))
	var calls errgroup.Group
	calls.SetLimit(callsAtOnce)
	for i, id := range ids {
		calls.Go(func() error { return v.get(at.rotations+"/"+id, nil, &data.Rotations[i]) })
	}
	if err := calls.Wait(); err != nil {
		return err
	}
	if len(ids) == historyPart {
		data.NextPart = Root + at.tenant + "?after=" + url.QueryEscape(ids[historyPart-1])
	}
	if q.Has("after") || len(ids) == 0 {
		return nil
	}
	latest := &data.Rotations[0]
	if latest.Unfinished() {
		data.Running = latest
	}
	if v.may(at.act, "update") {
		data.ActOn, data.Actions = latest.RotationID, actionsOf(latest.Status)
	}
	return nil
}

// actionsOf are the actions that make sense for a rotation.
func actionsOf(status string) []string {
	switch status {
	case "in_progress":
		return []string{"pause", "cancel"}
	case "paused":
		return []string{"resume", "cancel"}
	case "failed":
		return []string{"retry"}
	default:
		return nil
	}
}
