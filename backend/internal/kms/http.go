// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kms

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxDial = time.Minute
	maxIdle = 32 // connections that are kept
	// maxAnswerBytes bounds an answer. What is longer is cut off, and so is malformed.
	maxAnswerBytes = 1 << 20
)

// newHTTPClient returns a client that takes nothing from the environment: no proxy, no
// certificates but the system's, and the ones of the parameters. It follows no redirect,
// so that a token goes to the address that it was given for, and nowhere else. instead, if
// it is not nil, takes the requests.
func newHTTPClient(p map[string]string, instead http.RoundTripper) (*http.Client, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: p["tls_server_name"]}
	skip, err := boolParameter(p, "tls_skip_verify")
	if err != nil {
		return nil, err
	}
	tlsConfig.InsecureSkipVerify = skip // #nosec G402 -- Vault's seal stanza has this parameter, too
	if ca := p["tls_ca_cert"]; ca != "" {
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, invalid("tls_ca_cert must be PEM: files are not read")
		}
	}
	if p["tls_client_cert"] != "" || p["tls_client_key"] != "" {
		pair, err := tls.X509KeyPair([]byte(p["tls_client_cert"]), []byte(p["tls_client_key"]))
		if err != nil {
			return nil, invalid("tls_client_cert and tls_client_key must be a pair in PEM: files are not read")
		}
		tlsConfig.Certificates = []tls.Certificate{pair}
	}
	if instead == nil {
		instead = &http.Transport{
			TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true,
			DialContext:         (&net.Dialer{Timeout: maxDial, KeepAlive: 30 * time.Second}).DialContext,
			MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: 90 * time.Second,
		}
	}
	return &http.Client{
		Transport:     bounded{instead},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// bounded cuts off answers that are too long.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswerBytes), resp.Body}
	return resp, nil
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] calls.
func (b bounded) CloseIdleConnections() {
	if c, ok := b.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// baseURL parses an address that is in a parameter.
func baseURL(p map[string]string, name string) (*url.URL, error) {
	u, err := url.Parse(p[name])
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, invalid("%s must be a URL such as https://vault.example:8200", name)
	}
	return u, nil
}

// reachError says why a provider was not reached, without the address, which the error
// of net/http repeats.
func reachError(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
		return errors.New("no answer within the timeout")
	}
	return fmt.Errorf("out of reach: %w", err)
}
