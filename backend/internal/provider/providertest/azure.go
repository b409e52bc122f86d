// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package providertest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// What an Azure takes.
const (
	AzureTenant = "46646709-b63e-4747-be42-516edeaf1e14"
	AzureClient = "03dc33fc-16d9-4b77-8152-3ec568f8af6e"
	AzureSecret = "providertest~secret~0123456789"
	azureToken  = "providertest-token-"
	azureFirst  = "78deebed173b48e48f55abf87ed4cf71"
	azureSecond = "d1c5f3b07e2a4a0f9d2a3f1f6c0b9e44"
)

// Azure is a server for tests that speaks as much of the protocols of Azure Key Vault (7.4)
// and of Entra's client credentials as wrapping needs, with an RSA key of two versions. It is
// not Azure.
type Azure struct {
	// Login and Vault are the hosts that it has.
	Login, Vault string

	mu       sync.Mutex
	versions map[string]*rsa.PrivateKey
	latest   string
	tokens   int
	login    *Answer
	vault    *Answer
	requests []*http.Request
}

// NewAzure returns a working Azure.
func NewAzure() *Azure {
	return &Azure{Login: "login.microsoftonline.com", Vault: "owner.vault.azure.net", versions: azureVersions(), latest: azureFirst}
}

// azureVersions are made once: RSA keys take their time. They are only read.
var azureVersions = sync.OnceValue(func() map[string]*rsa.PrivateKey {
	versions := map[string]*rsa.PrivateKey{}
	for _, version := range []string{azureFirst, azureSecond} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err) // only for another size
		}
		versions[version] = key
	}
	return versions
})

// AzureFailure is an error of a key vault, as it says them; within is the code inside.
func AzureFailure(status int, code, within, message string) *Answer {
	said := map[string]any{"code": code, "message": message}
	if within != "" {
		said["innererror"] = map[string]string{"code": within}
	}
	body, _ := json.Marshal(map[string]any{"error": said})
	return &Answer{Status: status, Body: string(body)}
}

// EntraFailure is an error of the service that gives tokens.
func EntraFailure(status int, code string, number int, message string) *Answer {
	body, _ := json.Marshal(map[string]any{
		"error": code, "error_description": fmt.Sprintf("AADSTS%d: %s", number, message), "error_codes": []int{number},
		"error_uri": fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", number),
	})
	return &Answer{Status: status, Body: string(body)}
}

// Say has all further requests for tokens, and to the key vault, answered so, with nil as they
// should be.
func (a *Azure) Say(login, vault *Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.login, a.vault = login, vault
}

// Rotate makes the second version the latest.
func (a *Azure) Rotate() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.latest = azureSecond
}

// Requests returns the requests so far.
func (a *Azure) Requests() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}

// RoundTrip answers a request without a network.
func (a *Azure) RoundTrip(req *http.Request) (*http.Response, error) { return roundTrip(a, req) }

// ServeHTTP answers both hosts.
func (a *Azure) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = append(a.requests, req)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	switch {
	case req.URL.Scheme != "https" || req.Method != http.MethodPost:
		AzureFailure(400, "BadParameter", "", "").write(w)
	case req.URL.Host == a.Login && a.login != nil:
		a.login.write(w)
	case req.URL.Host == a.Login:
		a.giveToken(w, req)
	case req.URL.Host == a.Vault && a.vault != nil:
		a.vault.write(w)
	case req.URL.Host == a.Vault:
		a.use(w, req)
	default:
		(&Answer{Status: 502, Body: "no such host"}).write(w)
	}
}

func (a *Azure) giveToken(w http.ResponseWriter, req *http.Request) {
	_, resource, _ := strings.Cut(a.Vault, ".")
	want := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {AzureClient}, "client_secret": {AzureSecret},
		"scope": {"https://" + resource + "/.default"},
	}
	switch err := req.ParseForm(); {
	case err != nil || req.URL.Path != "/"+AzureTenant+"/oauth2/v2.0/token":
		EntraFailure(400, "invalid_request", 90002, "Tenant not found.").write(w)
	case req.PostForm.Encode() != want.Encode():
		EntraFailure(401, "invalid_client", 7000215, "Invalid client secret provided.").write(w)
	default:
		a.tokens++
		reply(w, map[string]any{"token_type": "Bearer", "expires_in": 3599, "access_token": fmt.Sprint(azureToken, a.tokens)})
	}
}

func (a *Azure) use(w http.ResponseWriter, req *http.Request) {
	var body struct {
		Alg   string `json:"alg"`
		Value string `json:"value"`
	}
	err := json.NewDecoder(req.Body).Decode(&body)
	value, malformed := base64.RawURLEncoding.DecodeString(body.Value)
	parts := strings.Split(req.URL.Path, "/") // /keys/dek/<version>/<operation>
	if len(parts) == 4 {
		parts = []string{"", parts[1], parts[2], a.latest, parts[3]}
	}
	switch {
	case !strings.HasPrefix(req.Header.Get("Authorization"), "Bearer "+azureToken):
		AzureFailure(401, "Unauthorized", "", "AKV10000: Request is missing a Bearer or PoP token.").write(w)
	case err != nil || malformed != nil || body.Alg != "RSA-OAEP-256" || req.URL.Query().Get("api-version") != "7.4":
		AzureFailure(400, "BadParameter", "", "Property has invalid value").write(w)
	case len(parts) != 5 || parts[1] != "keys" || parts[2] != "dek" || a.versions[parts[3]] == nil:
		AzureFailure(404, "KeyNotFound", "", "A key with (name/id) dek was not found in this key vault.").write(w)
	default:
		a.operate(w, parts[3], parts[4], value)
	}
}

func (a *Azure) operate(w http.ResponseWriter, version, operation string, value []byte) {
	key, result, err := a.versions[version], []byte(nil), error(nil)
	if operation == "wrapkey" {
		result, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, value, nil)
	} else {
		result, err = rsa.DecryptOAEP(sha256.New(), nil, key, value, nil)
	}
	if err != nil {
		AzureFailure(400, "BadParameter", "", "The parameter is incorrect.").write(w)
		return
	}
	reply(w, map[string]string{"kid": "https://" + a.Vault + "/keys/dek/" + version, "value": base64.RawURLEncoding.EncodeToString(result)})
}
