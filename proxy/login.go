// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
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
	user, err := p.passwordLogin(r.Context(), realm, username, password)
	if err != nil {
		return loginProblem(err)
	}
	exchangeOf(r.Context()).setEntity(user.Token.EntityID)
	// Not every user may read the settings, and then the organization's name is
	// not theirs to know; a login does not fail for it.
	org := ""
	if settings, err := realm.vault.Settings(r.Context(), user.Token.Value); err == nil {
		org = settings.OrgID
	}
	return writeJSON(w, http.StatusOK, loginAnswer{
		Products: []product{{Name: "Vault DEK", BaseAPIURL: p.baseURL(r) + "/saas"}},
		UserInfo: userInfo{
			SessionID: user.Token.Value, ID: user.Token.EntityID, Name: user.Username,
			ParentOrgID: org, OrgID: org, OrgName: org, Groups: []string{}, Status: "Active",
		},
	})
}

// passwordLogin checks a password at Vault, as often as it may be wrong.
func (p *Proxy) passwordLogin(ctx context.Context, r *realm, username, password string) (user vault.User, err error) {
	start := p.now()
	defer func() { p.metrics.login(err, p.now().Sub(start)) }()
	err = p.logins.attempt(ctx, r.vault.Server(), exchangeOf(ctx).addressKey, accountKey(r, username), func() error {
		var err error
		user, err = r.vault.LoginUser(ctx, username, password)
		return err
	})
	if err == nil {
		p.own.remember(keyOf(r.key(), user.Token.Value))
	}
	return user, err
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

// baseURL is how callers reach the proxy: as configured, else as this one did, if the
// host that it named is the proxy's, else by the address that the request came in at.
// A session is sent to where this points, and both the Host header and forwarding
// headers are anyone's to send.
func (p *Proxy) baseURL(r *http.Request) string {
	if p.publicURL != "" {
		return p.publicURL
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	local := ""
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		local = addr.String()
	}
	if p.isOwnHost(r, local) {
		return scheme + "://" + r.Host
	}
	return scheme + "://" + local
}

var hostForm = regexp.MustCompile(`^([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// isOwnHost reports whether the Host header names the proxy: the address that the
// request came in at, a name of this host on loopback, or over TLS a name of the
// certificate.
func (p *Proxy) isOwnHost(r *http.Request, local string) bool {
	if !hostForm.MatchString(r.Host) {
		return false
	}
	if r.Host == local {
		return true
	}
	at, err := netip.ParseAddrPort(local)
	if err != nil {
		return false
	}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	// Without a port it is the scheme's. Over TLS something in front may have mapped it.
	if port != "" && port != strconv.Itoa(int(at.Port())) {
		return false
	}
	if r.TLS != nil {
		return p.ownName != nil && p.ownName(host)
	}
	return at.Addr().Unmap().IsLoopback() && isLoopbackName(host) && (port != "" || at.Port() == 80)
}

func isLoopbackName(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && addr.IsLoopback())
}
