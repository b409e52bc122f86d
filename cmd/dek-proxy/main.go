// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Command dek-proxy serves the documented legacy REST calls in front of a Vault
// that runs the DEK secrets engine. See docs/proxy.md.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.LookupEnv, os.Stderr)
	stop()
	switch {
	case errors.Is(err, errVersion):
		fmt.Println(version.Line("dek-proxy"))
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "dek-proxy:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "dek-proxy:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. Logs and the help text go to out.
func run(ctx context.Context, args []string, env func(string) (string, bool), out io.Writer) error {
	// From the start: a supervisor may send it early, and it must not kill.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	opts, err := parseOptions(args, env, out)
	if err != nil {
		return err
	}
	log := hclog.New(&hclog.LoggerOptions{
		Name: "dek-proxy", Level: hclog.LevelFromString(opts.logLevel), Output: out, JSONFormat: true,
	})
	log.Info("starting", "version", version.Version(), "commit", version.Commit())
	r, err := prepare(opts, env, log)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var reloads sync.WaitGroup
	reloads.Go(func() { r.run(ctx, hup) })
	defer reloads.Wait()
	defer stop()
	return serve(ctx, opts, r.endpoints(), log)
}

// prepare makes the proxy of what the options say, and what reloads it.
func prepare(opts *options, env func(string) (string, bool), log hclog.Logger) (*reloader, error) {
	r := &reloader{opts: opts, env: env, log: log}
	var err error
	if r.certs, err = newCertificates(opts, log); err != nil {
		return nil, err
	}
	if r.configs, err = opts.realmConfigs(); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	r.stamp = stampOf(files(r.configs, env)...)
	if r.realms, err = opts.connect(r.configs); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	cfg := proxy.Config{
		Realms: r.realms, RequestTimeout: opts.requestTimeout(), PublicURL: opts.publicURL,
		SeparateAdmin: opts.adminListen != "", CacheSize: opts.cacheSize, TrustedProxies: opts.trusted.all,
		RefusedPerAddress: opts.perAddress, RefusedPerAccount: opts.perAccount, Logger: log,
	}
	if r.certs != nil {
		cfg.OwnName = r.certs.isFor
	}
	r.proxy, err = proxy.New(cfg)
	return r, err
}

// endpoints are where the proxy listens, and what for.
func (r *reloader) endpoints() []endpoint {
	all := []endpoint{{address: r.opts.listen, listenFile: r.opts.listenFile, handler: r.proxy}}
	if r.opts.adminListen != "" {
		all = append(all, endpoint{name: "admin", address: r.opts.adminListen, handler: r.proxy.Admin()})
	}
	if r.certs != nil {
		for i, choose := range []func(*certificates) *tls.Config{forCallers, forAdmin}[:len(all)] {
			all[i].tls = r.certs.config(choose)
		}
	}
	return all
}
