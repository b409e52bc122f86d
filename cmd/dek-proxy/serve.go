// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"cmp"
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
		ErrorLog:                     log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
}

// endpoint is one address to listen on.
type endpoint struct {
	name       string // for the log; empty for the callers' one
	address    string
	listenFile string
	handler    http.Handler
	tls        *tls.Config // nil: plain HTTP
}

// listening is an endpoint in use.
type listening struct {
	endpoint
	server  *http.Server
	address string // as bound
}

// serve listens until ctx ends, then lets requests in flight finish.
func serve(ctx context.Context, opts *options, endpoints []endpoint, log hclog.Logger) error {
	done := make(chan error, len(endpoints))
	var all []*listening
	defer func() {
		for _, l := range all {
			withdraw(l.listenFile)
		}
	}()
	for _, e := range endpoints {
		l, err := listen(ctx, opts, e, log, done)
		if err != nil {
			return errors.Join(err, closeAll(all))
		}
		all = append(all, l)
	}
	for _, l := range all {
		if err := l.announce(log); err != nil {
			return errors.Join(err, closeAll(all))
		}
	}
	select {
	case err := <-done:
		return errors.Join(fmt.Errorf("serve: %w", err), closeAll(all))
	case <-ctx.Done():
	}
	log.Info("stopping")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	var errs []error
	for _, l := range all {
		if err := l.server.Shutdown(drain); err != nil {
			errs = append(errs, fmt.Errorf("requests were still running: %w", err), l.server.Close())
		}
	}
	return errors.Join(errs...)
}

func closeAll(all []*listening) error {
	var errs []error
	for _, l := range all {
		errs = append(errs, l.server.Close())
	}
	return errors.Join(errs...)
}

// listen begins to serve an endpoint. How that ends goes to done.
func listen(ctx context.Context, opts *options, e endpoint, log hclog.Logger, done chan<- error) (*listening, error) {
	l := &listening{endpoint: e, server: newServer(opts, e.handler, log)}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", e.address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l.address = listener.Addr().String()
	go func() {
		if e.tls != nil {
			l.server.TLSConfig = e.tls
			done <- l.server.ServeTLS(listener, "", "")
			return
		}
		done <- l.server.Serve(listener)
	}()
	return l, nil
}

// announce says where the proxy listens, in the log and in the file that a
// supervisor waits for.
func (l *listening) announce(log hclog.Logger) error {
	log.Info("listening", "address", l.address, "tls", l.tls != nil, "for", cmp.Or(l.name, "callers"))
	if host, _, err := net.SplitHostPort(l.address); err == nil && l.tls == nil && !isLoopback(host) {
		log.Warn("tokens cross the network in clear", "address", l.address)
	}
	return writeListenFile(l.listenFile, l.address)
}

func writeListenFile(file, address string) error {
	if file == "" {
		return nil
	}
	temp, err := os.CreateTemp(filepath.Dir(file), ".listen-*")
	if err != nil {
		return fmt.Errorf("listen file: %w", err)
	}
	_, err = temp.WriteString(address + "\n")
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), file) // #nosec G703 -- the operator names the file
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
		_ = os.Remove(listenFile) // #nosec G703 -- the operator names the file
	}
}
