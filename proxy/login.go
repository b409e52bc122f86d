// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"net/http"
	"regexp"
)

// usernameForm is what Vault's userpass method takes; asked for anything else
// it answers 500.
var usernameForm = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,254}[A-Za-z0-9_])?$`)

type product struct {
	Name       string `json:"name"`
	BaseAPIURL string `json:"baseApiUrl"`
}

type userInfo struct {
	SessionID   string   `json:"sessionId"`
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	ParentOrgID string   `json:"parentOrgId"`
	OrgID       string   `json:"orgId"`
	OrgName     string   `json:"orgName"`
	Groups      []string `json:"groups"`
	Status      string   `json:"status"`
}

type loginAnswer struct {
	Products []product `json:"products"`
	UserInfo userInfo  `json:"userInfo"`
}

// userLogin is POST /saas/public/core/v3/login. The session ID that it returns
// is a Vault token.
func (p *Proxy) userLogin(w http.ResponseWriter, r *http.Request) error {
	realm, prob := p.realmOf(r.Header)
	if prob != nil {
		return prob
	}
	username, password, prob := loginRequest(r)
	if prob != nil {
		return prob
	}
	if !usernameForm.MatchString(username) {
		return unauthorized("Vault refused the login")
	}
	start := p.now()
	user, err := realm.vault.LoginUser(r.Context(), username, password)
	p.metrics.login(err, p.now().Sub(start))
	if err != nil {
		return loginProblem(err)
	}
	// Not every user may read the settings, and then the organization's name is
	// not theirs to know; a login does not fail for it.
	org := ""
	if settings, err := realm.vault.Settings(r.Context(), user.Token.Value); err == nil {
		org = settings.OrgID
	}
	return writeJSON(w, http.StatusOK, loginAnswer{
		Products: []product{{Name: "Vault DEK", BaseAPIURL: p.baseURL(r) + "/saas"}},
		UserInfo: userInfo{
			SessionID: user.Token.Value, ID: user.EntityID, Name: user.Username,
			ParentOrgID: org, OrgID: org, OrgName: org, Groups: []string{}, Status: "Active",
		},
	})
}

func loginRequest(r *http.Request) (username, password string, prob *problem) {
	if prob := requireJSON(r.Header); prob != nil {
		return "", "", prob
	}
	object, prob := readObject(r)
	if prob != nil {
		return "", "", prob
	}
	if username, prob = stringField(object, "username"); prob != nil {
		return "", "", prob
	}
	if password, prob = stringField(object, "password"); prob != nil {
		return "", "", prob
	}
	return username, password, nil
}

// baseURL is how callers reach the proxy: as configured, else as this one did.
// A forwarding header is anyone's to send and is not believed.
func (p *Proxy) baseURL(r *http.Request) string {
	if p.publicURL != "" {
		return p.publicURL
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}
