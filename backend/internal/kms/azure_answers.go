// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// azureCloud has the hosts of one of Azure's clouds.
type azureCloud struct{ login, keys string }

// azureClouds are by the names that Vault's seal stanza takes, in capitals.
var azureClouds = map[string]azureCloud{
	"":                       {"login.microsoftonline.com", "vault.azure.net"},
	"AZURECLOUD":             {"login.microsoftonline.com", "vault.azure.net"},
	"AZUREPUBLICCLOUD":       {"login.microsoftonline.com", "vault.azure.net"},
	"AZUREUSGOVERNMENT":      {"login.microsoftonline.us", "vault.usgovcloudapi.net"},
	"AZUREUSGOVERNMENTCLOUD": {"login.microsoftonline.us", "vault.usgovcloudapi.net"},
	"AZURECHINACLOUD":        {"login.chinacloudapi.cn", "vault.azure.cn"},
}

// maxToken is how long a token is used. Azure's lives for an hour, and goes on to be taken
// after its client secret was deleted: that has to count within a second of the lease.
const maxToken = time.Second

// azureToken asks for tokens by a client secret.
type azureToken struct {
	config clientcredentials.Config
	client *http.Client

	mu    sync.Mutex
	token string
	until time.Time
}

func newAzureToken(p map[string]string, cloud azureCloud, resource string, client *http.Client) *azureToken {
	return &azureToken{client: client, config: clientcredentials.Config{
		ClientID: p["client_id"], ClientSecret: p["client_secret"],
		TokenURL:  "https://" + cloud.login + "/" + p["tenant_id"] + "/oauth2/v2.0/token",
		Scopes:    []string{"https://" + resource + "/.default"},
		AuthStyle: oauth2.AuthStyleInParams,
	}}
}

// get returns a token. No lock is held while it asks: of several callers each may ask.
func (t *azureToken) get(ctx context.Context) (string, error) {
	if token := t.kept(); token != "" {
		return token, nil
	}
	began := time.Now()
	token, err := t.config.Token(context.WithValue(ctx, oauth2.HTTPClient, t.client))
	if err != nil {
		return "", tokenError(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token, t.until = token.AccessToken, began.Add(maxToken)
	return token.AccessToken, nil
}

func (t *azureToken) kept() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !time.Now().Before(t.until) {
		t.token = ""
	}
	return t.token
}

// tokenDenies are the numbers of Entra's errors (AADSTS) that say that the credential was
// taken back.
var tokenDenies = []int{
	7000215, // the client secret is not, or no longer, one of the application's
	7000222, // the client secret has expired
	7000112, // the application is disabled
	7000229, // the application has no principal in the tenant any more
	700016,  // the application is not in the tenant any more
}

func tokenError(err error) error {
	var said *oauth2.RetrieveError
	if !errors.As(err, &said) {
		var sent *url.Error
		if errors.As(err, &sent) {
			return reachError(err)
		}
		return errors.New("token: the answer is malformed") // the decoder may quote it
	}
	var answer struct {
		Codes []int `json:"error_codes"`
	}
	if json.Unmarshal(said.Body, &answer) != nil || said.ErrorCode == "" {
		return fmt.Errorf("token: status %d", said.Response.StatusCode)
	}
	text := fmt.Sprintf("token: %s: %s", said.ErrorCode, said.ErrorDescription)
	status := said.Response.StatusCode
	denies := slices.ContainsFunc(answer.Codes, func(code int) bool { return slices.Contains(tokenDenies, code) })
	if denies && (status == http.StatusBadRequest || status == http.StatusUnauthorized) {
		return &Refusal{text}
	}
	return errors.New(text)
}

// azureDenies are the errors, by their status and the code within, by which a key vault says
// that a key is not to be had any more. 403 is also of a firewall and of private endpoints,
// and 401 of a token that is not taken.
var azureDenies = map[int][]string{
	http.StatusForbidden: {"Forbidden", "AccessDenied", "ForbiddenByPolicy", "ForbiddenByRbac", "KeyDisabled"},
	http.StatusNotFound:  {"KeyNotFound"},
}

func azureError(status int, body []byte) error {
	var answer struct {
		Error struct {
			Code, Message string
			InnerError    struct{ Code string } // spelled innererror, or innerError
		}
	}
	if json.Unmarshal(body, &answer) != nil || answer.Error.Code == "" {
		return fmt.Errorf("status %d", status) // not a key vault's: a proxy's, say
	}
	code := answer.Error.Code
	if inner := answer.Error.InnerError.Code; inner != "" {
		code = inner
	}
	text := fmt.Sprintf("%s: %s", code, answer.Error.Message)
	if slices.Contains(azureDenies[status], code) {
		return &Refusal{text}
	}
	return fmt.Errorf("status %d: %s", status, text)
}
