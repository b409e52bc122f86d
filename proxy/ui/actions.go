// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// intervals are the organization's four. A tenant may have any duration, too.
var intervals = []string{"90_DAYS", "120_DAYS", "180_DAYS", "365_DAYS"}

// rotate is POST /ui/tenants/{tenant}/rotate.
func (s *site) rotate(v *visit) error {
	id, err := v.part("tenant", uuidForm)
	if err != nil {
		return err
	}
	at := pathsOf(id)
	body := map[string]any{"reason": strings.TrimSpace(v.r.PostFormValue("reason"))}
	// The form's own: a form that is sent twice starts one rotation.
	if key := v.r.PostFormValue("key"); key != "" {
		body["idempotency_key"] = key
	}
	if err := v.put(at.rotate, body, nil); err != nil {
		return err
	}
	return v.back(Root+at.tenant, text("said.rotation-started"))
}

var actionForm = regexp.MustCompile(`^(pause|resume|cancel|retry)$`)

// act is POST /ui/tenants/{tenant}/rotations/{id}.
func (s *site) act(v *visit) error {
	id, err := v.part("tenant", uuidForm)
	if err != nil {
		return err
	}
	rotationID, err := v.part("id", rotationForm)
	if err != nil {
		return err
	}
	action := v.r.PostFormValue("action")
	if !actionForm.MatchString(action) {
		return &Refusal{Status: http.StatusBadRequest, Reason: text("error.action")}
	}
	at := pathsOf(id)
	if err := v.put(at.rotations+"/"+rotationID+"/"+action, map[string]any{}, nil); err != nil {
		return err
	}
	return v.back(Root+at.tenant, text("said."+action))
}

// changeTenant is POST /ui/tenants/{tenant}/settings.
func (s *site) changeTenant(v *visit) error {
	id, err := v.part("tenant", uuidForm)
	if err != nil {
		return err
	}
	at := pathsOf(id)
	body := map[string]any{
		"rotation_interval": strings.TrimSpace(v.r.PostFormValue("rotation_interval")),
		"rotation_paused":   v.r.PostFormValue("rotation_paused") == "true",
		"must_exist":        true,
	}
	if err := v.put(at.tenant, body, nil); err != nil {
		return err
	}
	return v.back(Root+at.tenant, text("said.saved"))
}

// confirm refuses an action that cannot be taken back unless the person has typed what
// the tenant is called: its name, or its ID where the name is not known to the person.
func (v *visit) confirm(at paths, id string) error {
	if err := v.learnTenant(at); err != nil {
		return err
	}
	names := []string{id}
	if v.may(at.tenant, "read") {
		var t tenantAnswer
		if err := v.get(at.tenant, nil, &t); err != nil {
			return err
		}
		if t.DisplayName != "" {
			names = []string{t.DisplayName}
		}
	}
	if !slices.Contains(names, strings.TrimSpace(v.r.PostFormValue("confirm"))) {
		return &Refusal{Status: http.StatusBadRequest, Reason: text("error.confirm")}
	}
	return nil
}

// deleteTenant is POST /ui/tenants/{tenant}/delete.
func (s *site) deleteTenant(v *visit) error {
	id, err := v.part("tenant", uuidForm)
	if err != nil {
		return err
	}
	at := pathsOf(id)
	if err := v.confirm(at, id); err != nil {
		return err
	}
	var t tenantAnswer
	if err := v.do(vault.Request{Method: http.MethodDelete, Path: at.tenant}, &t); err != nil {
		return err
	}
	if t.DeleteAfter == nil {
		return v.back(Root, text("said.deleted"))
	}
	return v.backUntil(Root+at.tenant, text("said.deleting"), t.DeleteAfter)
}

// restoreTenant is POST /ui/tenants/{tenant}/restore.
func (s *site) restoreTenant(v *visit) error {
	id, err := v.part("tenant", uuidForm)
	if err != nil {
		return err
	}
	at := pathsOf(id)
	if err := v.put(at.restore, map[string]any{}, nil); err != nil {
		return err
	}
	return v.back(Root+at.tenant, text("said.restored"))
}

// destroyVersion is POST /ui/tenants/{tenant}/versions/{version}, and …/destroy for a person
// who may destroy a version and not see it.
func (s *site) destroyVersion(v *visit) error {
	id, err := v.part("tenant", uuidForm)
	if err != nil {
		return err
	}
	number := v.r.PathValue("version")
	if number == "" {
		number = strings.TrimSpace(v.r.PostFormValue("version"))
	}
	if !numberForm.MatchString(number) {
		return &Refusal{Status: http.StatusBadRequest, Reason: text("error.version")}
	}
	at := pathsOf(id)
	if err := v.confirm(at, id); err != nil {
		return err
	}
	if err := v.put(at.dek+"/versions/"+number+"/destroy", map[string]any{}, nil); err != nil {
		return err
	}
	return v.back(Root+at.tenant, text("said.destroyed", number))
}

// progressAnswer is what the script of a tenant's page asks for while a rotation runs.
type progressAnswer struct {
	Status string `json:"status"`
	// Percent and the texts are shown as they are.
	Percent float64 `json:"percent"`
	Text    string  `json:"text"`
}

// progress is GET /ui/tenants/{tenant}/progress?rotation={id}.
func (s *site) progress(v *visit) error {
	id, err := v.part("tenant", uuidForm)
	if err != nil {
		return err
	}
	rotationID := v.r.URL.Query().Get("rotation")
	if !rotationForm.MatchString(rotationID) {
		return &Refusal{Status: http.StatusBadRequest, Reason: text("error.no-page")}
	}
	var r rotation
	if err := v.get(pathsOf(id).rotations+"/"+rotationID, nil, &r); err != nil {
		return err
	}
	return v.json(progressAnswer{Status: r.Status, Percent: r.Percent, Text: r.Progress()})
}

// Progress says in a sentence how far the rotation is.
func (r *rotation) Progress() string {
	return text("rotation.progress", r.Percent, r.ItemsRotated.Total(), r.ItemsToRotate.Total(), r.ItemsPerSecond, r.ItemsFailed)
}

func (v *visit) json(body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/json")
	v.w.WriteHeader(http.StatusOK)
	_, _ = v.w.Write(raw)
	return nil
}
