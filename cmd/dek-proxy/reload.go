// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy"
)

// watchEvery is how often the files that Vault's clients were made of are looked at.
const watchEvery = 5 * time.Second

// reloader puts what has changed in the configuration, and in the files it names,
// into force. One goroutine uses it.
type reloader struct {
	opts    *options
	env     func(string) (string, bool)
	proxy   *proxy.Proxy
	certs   *certificates // nil without TLS
	log     hclog.Logger
	configs map[string]realmConfig
	realms  map[string]proxy.Realm
	stamp   string
}

// run reloads on each SIGHUP, and connects anew when certificates have changed, until
// ctx ends.
func (r *reloader) run(ctx context.Context, hup <-chan os.Signal) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			r.reload()
		case <-ticker.C:
			r.watch()
		}
	}
}

// reload is all or nothing: a fault anywhere leaves in force what was. (Files that
// turn bad between the look at them and their use are told as a failure, too.)
func (r *reloader) reload() {
	configs, err := r.opts.realmConfigs()
	if err == nil && r.certs != nil {
		err = r.certs.test()
	}
	if err == nil {
		err = r.connect(configs)
	}
	if err == nil && r.certs != nil {
		err = r.certs.reload()
	}
	if err != nil {
		r.log.Error("reload failed: nothing has changed", "error", err)
		return
	}
	r.log.Info("reloaded", "realms", len(configs))
}

// watch makes the clients anew if a file that they read at the start has changed.
func (r *reloader) watch() {
	if stampOf(files(r.configs, r.env)...) == r.stamp {
		return
	}
	if err := r.connect(r.configs); err != nil {
		r.stamp = stampOf(files(r.configs, r.env)...)
		r.log.Error("the changed certificates for vault are not used", "error", err)
		return
	}
	r.log.Info("certificates for vault were read again")
}

// connect makes clients of these realms, puts them into force, and lets go of the
// connections of the former ones.
func (r *reloader) connect(configs map[string]realmConfig) error {
	stamp := stampOf(files(configs, r.env)...)
	realms, err := r.opts.connect(configs)
	if err != nil {
		return err
	}
	if err := r.proxy.SetRealms(realms); err != nil {
		return err
	}
	former := r.realms
	r.configs, r.realms, r.stamp = configs, realms, stamp
	for _, realm := range former {
		if c, ok := realm.Vault.(interface{ Close() }); ok {
			c.Close()
		}
	}
	return nil
}
