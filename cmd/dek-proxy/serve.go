// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	readTimeout = 30 * time.Second
	// drainTimeout bounds the wait for requests in flight at the end.
	drainTimeout = 15 * time.Second
)

// newServer sets the limits that keep slow or greedy clients from holding
// connections. An answer may take as long as the request's own deadline.
func newServer(opts *options, handler http.Handler, log hclog.Logger) *http.Server {
	return &http.Server{
		Handler:                      handler,
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            10 * time.Second,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 readTimeout + opts.requestTimeout() + 5*time.Second,
		IdleTimeout:                  2 * time.Minute,
		MaxHeaderBytes:               64 << 10,
		TLSConfig:                    &tls.Config{MinVersion: tls.VersionTLS12},
		ErrorLog:                     log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
}

// serve listens until ctx ends, then lets requests in flight finish.
func serve(ctx context.Context, opts *options, handler http.Handler, log hclog.Logger) error {
	server := newServer(opts, handler, log)
	if opts.tlsCert != "" {
		pair, err := tls.LoadX509KeyPair(opts.tlsCert, opts.tlsKey)
		if err != nil {
			return fmt.Errorf("-tls-cert and -tls-key: %w", err)
		}
		server.TLSConfig.Certificates = []tls.Certificate{pair}
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", opts.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		if opts.tlsCert != "" {
			done <- server.ServeTLS(listener, "", "")
			return
		}
		done <- server.Serve(listener)
	}()
	address := listener.Addr().String()
	if err := announce(opts, address, log); err != nil {
		return errors.Join(err, server.Close(), <-done)
	}
	defer withdraw(opts.listenFile)

	select {
	case err := <-done:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	log.Info("stopping", "address", address)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return errors.Join(fmt.Errorf("requests were still running: %w", err), server.Close())
	}
	return nil
}

// announce says where the proxy listens, in the log and in the file that a
// supervisor waits for.
func announce(opts *options, address string, log hclog.Logger) error {
	log.Info("listening", "address", address, "tls", opts.tlsCert != "")
	if host, _, err := net.SplitHostPort(address); err == nil && opts.tlsCert == "" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			log.Warn("tokens cross the network in clear: set -tls-cert and -tls-key, or put TLS in front", "address", address)
		}
	}
	if opts.listenFile == "" {
		return nil
	}
	temp, err := os.CreateTemp(filepath.Dir(opts.listenFile), ".listen-*")
	if err != nil {
		return fmt.Errorf("listen file: %w", err)
	}
	_, err = temp.WriteString(address + "\n")
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), opts.listenFile) // #nosec G703 -- the operator names the file
	}
	if err != nil {
		removed := os.Remove(temp.Name()) // #nosec G703 -- made above
		return fmt.Errorf("listen file: %w", errors.Join(err, removed))
	}
	return nil
}

// withdraw removes the listen file: nobody listens there any more.
func withdraw(listenFile string) {
	if listenFile != "" {
		// Gone already is as good.
		_ = os.Remove(listenFile)
	}
}
