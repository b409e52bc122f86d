// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"net/http"
	"net/url"
	"strings"
)

const (
	campaignsPath = "rotations"
	// runningPart is how many unfinished rotations are shown.
	runningPart = "100"
)

// running is an unfinished rotation of some tenant.
type running struct{ TenantID, RotationID string }

type campaignsPage struct {
	Running  []running
	More     bool
	Status   *status
	MayStart bool
}

// campaigns is GET /ui/campaigns.
func (s *site) campaigns(v *visit) error {
	if err := v.require(campaignsPath, "list", "status"); err != nil {
		return err
	}
	data := &campaignsPage{MayStart: v.may(campaignsPath, "update")}
	keys, err := v.list(campaignsPath, url.Values{"limit": {runningPart}})
	if err != nil {
		return err
	}
	for _, key := range keys {
		tenant, rotation, _ := strings.Cut(key, "/")
		data.Running = append(data.Running, running{tenant, rotation})
	}
	data.More = len(keys) == 100
	if v.may("status", "read") {
		data.Status = &status{}
		if err := v.get("status", nil, data.Status); err != nil {
			return err
		}
	}
	return v.show("campaigns", text("campaigns.title"), data)
}

// startCampaign is POST /ui/campaigns.
func (s *site) startCampaign(v *visit) error {
	body := map[string]any{
		"reason":         strings.TrimSpace(v.r.PostFormValue("reason")),
		"include_paused": v.r.PostFormValue("include_paused") == "true",
	}
	named := strings.Fields(strings.ToLower(strings.ReplaceAll(v.r.PostFormValue("tenants"), ",", " ")))
	switch {
	case v.r.PostFormValue("scope") != "all" && len(named) > 0:
		body["tenants"] = named
	case v.r.PostFormValue("scope") == "all" && strings.EqualFold(strings.TrimSpace(v.r.PostFormValue("confirm")), text("campaigns.confirm-word")):
		body["all"] = true
	default:
		return &Refusal{Status: http.StatusBadRequest, Reason: text("campaigns.invalid")}
	}
	var done struct {
		Scheduled int64 `json:"scheduled"`
		Skipped   int64 `json:"skipped_paused"`
	}
	if err := v.put(campaignsPath, body, &done); err != nil {
		return err
	}
	return v.back(Root+"campaigns", text("said.campaign", done.Scheduled, done.Skipped))
}
