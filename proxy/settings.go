// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// rotationIntervals are the values that the document allows. The engine has the
// last word; the proxy knows them so as to name them for a request that has none.
var rotationIntervals = []string{"90_DAYS", "120_DAYS", "180_DAYS", "365_DAYS"}

// rotationSettings is the resource, exactly as documented.
type rotationSettings struct {
	OrgID                  string   `json:"orgId"`
	ValidRotationIntervals []string `json:"validRotationIntervals"`
	RotationInterval       string   `json:"rotationInterval"`
}

// getSettings is GET /public/core/v3/key/rotationSettings.
func (p *Proxy) getSettings(w http.ResponseWriter, r *http.Request) error {
	caller, err := p.authenticate(r)
	if err != nil {
		return err
	}
	return p.answerSettings(w, r, caller, caller.realm.vault.Settings)
}

// changeSettings is PATCH and POST: the document says the one and shows the other.
func (p *Proxy) changeSettings(w http.ResponseWriter, r *http.Request) error {
	caller, err := p.authenticate(r)
	if err != nil {
		return err
	}
	interval, prob := settingsRequest(r)
	if prob != nil {
		return p.refuse(r.Context(), caller, prob)
	}
	return p.answerSettings(w, r, caller, func(ctx context.Context, token string) (vault.Settings, error) {
		return caller.realm.vault.SetSettings(ctx, token, interval)
	})
}

// settingsRequest reads the interval to set.
func settingsRequest(r *http.Request) (string, *problem) {
	if prob := requireJSON(r.Header); prob != nil {
		return "", prob
	}
	object, prob := readObject(r)
	if prob != nil {
		return "", prob
	}
	interval, prob := stringField(object, "rotationInterval")
	if prob != nil || !slices.Contains(rotationIntervals, interval) {
		return "", invalid("rotationInterval must be one of %s", strings.Join(rotationIntervals, ", "))
	}
	return interval, nil
}

// answerSettings makes the call and answers with the settings that it returns.
func (p *Proxy) answerSettings(w http.ResponseWriter, r *http.Request, caller *session,
	do func(ctx context.Context, token string) (vault.Settings, error),
) error {
	var settings vault.Settings
	err := p.call(r.Context(), caller, func(ctx context.Context, token string) error {
		var err error
		settings, err = do(ctx, token)
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, rotationSettings{
		OrgID: settings.OrgID, RotationInterval: settings.RotationInterval,
		ValidRotationIntervals: slices.Concat([]string{}, settings.ValidRotationIntervals),
	})
}
