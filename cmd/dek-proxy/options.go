// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
)

// errUsage means that the command line or the environment is at fault.
var errUsage = errors.New("invalid usage")

// options is the command line. Each flag may also be set in the environment, as
// DEK_PROXY_ and its name in capitals; the command line wins.
type options struct {
	listen, listenFile   string
	mount, userpassMount string
	realms               realmFlag
	vaultTimeout         time.Duration
	cacheSize            int
	publicURL, logLevel  string
	tlsCert, tlsKey      string
}

func (o *options) flags(out io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("dek-proxy", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		_, _ = fmt.Fprint(out, "Usage of dek-proxy. In the environment a flag is DEK_PROXY_ and its name in capitals, with _ for -.\n")
		fs.PrintDefaults()
	}
	fs.StringVar(&o.listen, "listen", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	fs.StringVar(&o.listenFile, "listen-file", "", "write the bound address to this `file`, renamed into place when ready")
	fs.StringVar(&o.mount, "mount", "dek", "`path` of the secrets engine")
	fs.StringVar(&o.userpassMount, "userpass-mount", "userpass", "`path` of the userpass auth method, for logins with a password")
	fs.Var(&o.realms, "realm", "`name=mount:role` of a realm's JWT auth method; repeatable (default default=jwt:dek)")
	fs.DurationVar(&o.vaultTimeout, "vault-timeout", 10*time.Second, "how long to wait for one call to Vault")
	fs.IntVar(&o.cacheSize, "token-cache-size", 10_000, "how many Vault tokens to keep at most")
	fs.StringVar(&o.publicURL, "public-url", "", "`URL` that callers reach the proxy at; empty: as each request did")
	fs.StringVar(&o.logLevel, "log-level", "info", "trace, debug, info, warn, error or off")
	fs.StringVar(&o.tlsCert, "tls-cert", "", "`file` with the certificate chain in PEM; with -tls-key, serve HTTPS")
	fs.StringVar(&o.tlsKey, "tls-key", "", "`file` with the private key in PEM")
	return fs
}

// parseOptions reads flags, then the environment for those not given. The
// returned error wraps errUsage, or is flag.ErrHelp.
func parseOptions(args []string, env func(string) (string, bool), out io.Writer) (*options, error) {
	o := &options{}
	fs := o.flags(out)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("%w: unexpected argument %q", errUsage, fs.Arg(0))
	}
	if err := fromEnvironment(fs, env); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return o, nil
}

// fromEnvironment sets the flags that the command line left alone.
func fromEnvironment(fs *flag.FlagSet, env func(string) (string, bool)) error {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var errs []error
	fs.VisitAll(func(f *flag.Flag) {
		name := "DEK_PROXY_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := env(name)
		if !ok || value == "" || given[f.Name] {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	})
	return errors.Join(errs...)
}

func (o *options) check() error {
	switch {
	case o.vaultTimeout <= 0:
		return errors.New("-vault-timeout must be more than 0")
	case o.cacheSize <= 0:
		return errors.New("-token-cache-size must be more than 0")
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return errors.New("-tls-cert and -tls-key go together")
	case hclog.LevelFromString(o.logLevel) == hclog.NoLevel:
		return fmt.Errorf("-log-level %q is none of trace, debug, info, warn, error, off", o.logLevel)
	}
	if o.publicURL == "" {
		return nil
	}
	u, err := url.Parse(o.publicURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("-public-url %q must be an http or https URL", o.publicURL)
	}
	return nil
}

// requestTimeout leaves room for a login, a call, and one of them again.
func (o *options) requestTimeout() time.Duration { return 3 * o.vaultTimeout }

// realmFlag collects realms; a comma separates several in one value, as the
// environment needs.
type realmFlag struct{ byName map[string]realmConfig }

// String implements flag.Value.
func (f *realmFlag) String() string { return "" }

// Set implements flag.Value.
func (f *realmFlag) Set(value string) error {
	for one := range strings.SplitSeq(value, ",") {
		name, realm, err := parseRealm(one)
		if err != nil {
			return err
		}
		if _, twice := f.byName[name]; twice {
			return fmt.Errorf("realm %q is given twice", name)
		}
		if f.byName == nil {
			f.byName = map[string]realmConfig{}
		}
		f.byName[name] = realm
	}
	return nil
}
