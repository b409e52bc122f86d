// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// checkEvery is how often the files are looked at, at the most.
const checkEvery = time.Second

// certificates are what the proxy shows and asks for over TLS. They are read again
// when a file has changed; files that cannot be read, or do not fit each other, leave
// in force what was.
type certificates struct {
	certFile, keyFile, clientCA string
	log                         hclog.Logger

	mu      sync.Mutex
	checked time.Time
	stamp   string
	leaf    *x509.Certificate
	callers *tls.Config // for callers, who may have to present a certificate
	admin   *tls.Config // for operators, who need not
}

// newCertificates reads the files, and returns nil where there are none.
func newCertificates(o *options, log hclog.Logger) (*certificates, error) {
	if o.tlsCert == "" {
		return nil, nil //nolint:nilnil // no certificates, no error
	}
	c := &certificates{certFile: o.tlsCert, keyFile: o.tlsKey, clientCA: o.clientCA, log: log}
	return c, c.reload()
}

// test tells whether reload would succeed.
func (c *certificates) test() error {
	return (&certificates{certFile: c.certFile, keyFile: c.keyFile, clientCA: c.clientCA}).reload()
}

// reload reads the files now. After an error nothing has changed.
func (c *certificates) reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read()
}

func (c *certificates) read() error {
	c.checked, c.stamp = time.Now(), stampOf(c.certFile, c.keyFile, c.clientCA)
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("-tls-cert and -tls-key: %w", err)
	}
	// One configuration serves many connections, so that they can be resumed.
	admin := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"},
	}
	callers := admin.Clone()
	if c.clientCA != "" {
		callers.ClientAuth = tls.RequireAndVerifyClientCert
		if callers.ClientCAs, err = readPool(c.clientCA); err != nil {
			return fmt.Errorf("-tls-client-ca: %w", err)
		}
	}
	c.leaf, c.callers, c.admin = pair.Leaf, callers, admin
	return nil
}

func readPool(file string) (*x509.CertPool, error) {
	raw, err := os.ReadFile(file) // #nosec G304 G703 -- the operator names the file
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s: no certificate in PEM", file)
	}
	return pool, nil
}

// refresh reads the files again if they have changed.
func (c *certificates) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < checkEvery {
		return
	}
	c.checked = time.Now()
	if stampOf(c.certFile, c.keyFile, c.clientCA) == c.stamp {
		return
	}
	if err := c.read(); err != nil {
		c.log.Error("the changed certificates are not used", "error", err)
		return
	}
	c.log.Info("certificates were read again")
}

// config serves a listener with what is in force at each handshake.
func (c *certificates) config(choose func(*certificates) *tls.Config) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c.refresh()
			c.mu.Lock()
			defer c.mu.Unlock()
			return choose(c), nil
		},
	}
}

func forCallers(c *certificates) *tls.Config { return c.callers }

func forAdmin(c *certificates) *tls.Config { return c.admin }

// isFor reports whether the certificate is good for a name.
func (c *certificates) isFor(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaf != nil && c.leaf.VerifyHostname(name) == nil
}
