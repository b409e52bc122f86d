// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/api"
)

// sourceVariable is a setting of the source, empty if it is not set.
func sourceVariable(name string) string { return os.Getenv("SOURCE_VAULT_" + name) }

// sourceClient is a client of the source, as the environment sets it, which keeps as many
// connections as it uses.
func sourceClient(connections int) (*api.Client, error) {
	token, err := sourceToken()
	if err != nil {
		return nil, err
	}
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, fmt.Errorf("reading the VAULT_ settings: %w", config.Error)
	}
	if transport, is := config.HttpClient.Transport.(*http.Transport); is {
		transport.MaxIdleConnsPerHost = connections
	}
	address := sourceVariable("ADDR")
	if address == "" {
		err = mustNotNameAnother()
	} else {
		err = forgetTarget(config)
	}
	if err != nil {
		return nil, err
	}
	vault, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("reading the VAULT_ settings: %w", err)
	}
	vault.SetWrappingLookupFunc(func(string, string) string { return "" }) // a wrapped answer has no data
	if address != "" {
		if err := checkAddress("SOURCE_VAULT_ADDR", address); err != nil {
			return nil, err
		}
		if err := vault.SetAddress(address); err != nil {
			return nil, usage("SOURCE_VAULT_ADDR is no URL")
		}
		if token == "" {
			return nil, usage("SOURCE_VAULT_ADDR needs SOURCE_VAULT_TOKEN or SOURCE_VAULT_TOKEN_FILE")
		}
		vault.ClearNamespace()
		vault.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	}
	vault.SetToken(cmp.Or(token, vault.Token(), tokenOfHelper()))
	if namespace := sourceVariable("NAMESPACE"); namespace != "" {
		vault.SetNamespace(namespace)
	}
	return vault, nil
}

// sourceToken is the source's token, empty if it is not set.
func sourceToken() (string, error) {
	token, file := sourceVariable("TOKEN"), sourceVariable("TOKEN_FILE")
	switch {
	case token != "" && file != "":
		return "", usage("only one of SOURCE_VAULT_TOKEN and SOURCE_VAULT_TOKEN_FILE can be set")
	case file == "":
		return token, nil
	}
	text, err := os.ReadFile(file) // #nosec G304 -- what the user names
	if err != nil {
		return "", usage("SOURCE_VAULT_TOKEN_FILE: %s", err)
	}
	if token = strings.TrimSpace(string(text)); token == "" {
		return "", usage("SOURCE_VAULT_TOKEN_FILE: %s is empty", file)
	}
	return token, nil
}

// sourceTLS are the settings that say whom to trust at another server, and who one is there.
var sourceTLS = []string{"CACERT", "CAPATH", "TLS_SERVER_NAME", "CLIENT_CERT", "CLIENT_KEY", "SKIP_VERIFY"}

// mustNotNameAnother refuses settings that would be passed over without another server.
func mustNotNameAnother() error {
	for _, name := range sourceTLS {
		if sourceVariable(name) != "" {
			return usage("SOURCE_VAULT_%s is of another server: set SOURCE_VAULT_ADDR, too", name)
		}
	}
	return nil
}

// forgetTarget makes of the target's settings those of another server: whom to trust there,
// and who one is there, are the source's own settings. What the target is believed without
// a certificate, or under another name, must not hold for the source.
func forgetTarget(config *api.Config) error {
	transport, is := config.HttpClient.Transport.(*http.Transport)
	if !is {
		return fmt.Errorf("the transport is a %T", config.HttpClient.Transport)
	}
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	settings := &api.TLSConfig{
		CACert: sourceVariable("CACERT"), CAPath: sourceVariable("CAPATH"), TLSServerName: sourceVariable("TLS_SERVER_NAME"),
		ClientCert: sourceVariable("CLIENT_CERT"), ClientKey: sourceVariable("CLIENT_KEY"),
	}
	if settings.CACert == "" && settings.CAPath == "" { // one authority for both is usual
		settings.CACert, settings.CAPath = os.Getenv(api.EnvVaultCACert), os.Getenv(api.EnvVaultCAPath)
		settings.CACertBytes = []byte(os.Getenv(api.EnvVaultCACertBytes))
	}
	if text := sourceVariable("SKIP_VERIFY"); text != "" {
		var err error
		if settings.Insecure, err = strconv.ParseBool(text); err != nil {
			return usage("SOURCE_VAULT_SKIP_VERIFY must be true or false")
		}
	}
	if err := config.ConfigureTLS(settings); err != nil {
		return usage("SOURCE_VAULT_CACERT, SOURCE_VAULT_CLIENT_CERT and the rest: %s", err)
	}
	return nil
}
