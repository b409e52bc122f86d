// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
)

// errVersion means that the version is asked for, and nothing else.
var errVersion = errors.New("the version is asked for")

// errUsage means that the command line or the environment is at fault.
var errUsage = errors.New("invalid usage")

// options is the command line. Each flag may also be set in the environment, as
// DEK_PROXY_ and its name in capitals; the command line wins.
type options struct {
	listen, listenFile     string
	adminListen            string
	config                 string
	mount, userpassMount   string
	userClaim, rolePrefix  string
	realms                 realmFlag
	vaultTimeout           time.Duration
	cacheSize              int
	perAddress, perAccount int
	trusted                prefixFlag
	publicURL, logLevel    string
	tlsCert, tlsKey        string
	clientCA               string
	insecure, version      bool
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
	fs.StringVar(&o.adminListen, "admin-listen", "", "`address` for /metrics and the admin health, which are then there only")
	fs.StringVar(&o.config, "config", "", "`file` with the realms, in HCL or JSON, read again on SIGHUP")
	fs.StringVar(&o.mount, "mount", "dek", "`path` of the secrets engine")
	fs.StringVar(&o.userpassMount, "userpass-mount", "userpass", "`path` of the userpass auth method, for logins with a password")
	fs.StringVar(&o.userClaim, "user-claim", "sub", "`claim` of a JWT that is the user_claim of the role at Vault")
	fs.StringVar(&o.rolePrefix, "role-prefix", "", "what the roles begin with in the roles claim, as JWT_ROLE_PREFIX of bootstrap.sh")
	fs.Var(&o.realms, "realm", "`name=mount:role` of a realm's JWT auth method; repeatable (default default=jwt:dek)")
	fs.Var(durationFlag(&o.vaultTimeout, 10*time.Second), "vault-timeout", "`duration` to wait for one call to Vault")
	fs.Var(numberFlag(&o.cacheSize, 10_000), "token-cache-size", "`number` of Vault tokens to keep at most")
	fs.Var(numberFlag(&o.perAddress, 30), "refused-logins-per-address", "`number` of logins of one client address that may be refused in a minute")
	fs.Var(numberFlag(&o.perAccount, 10), "refused-logins-per-account", "`number` of logins of one account that may be refused in a minute")
	fs.Var(&o.trusted, "trusted-proxies", "`addresses` or networks, separated by commas, whose X-Forwarded-For is believed")
	fs.StringVar(&o.publicURL, "public-url", "", "`URL` that callers reach the proxy at; empty: as each request did, if that names this proxy")
	fs.StringVar(&o.logLevel, "log-level", "info", "trace, debug, info, warn, error or off")
	fs.StringVar(&o.tlsCert, "tls-cert", "", "`file` with the certificate chain in PEM; with -tls-key, serve HTTPS")
	fs.StringVar(&o.tlsKey, "tls-key", "", "`file` with the private key in PEM")
	fs.StringVar(&o.clientCA, "tls-client-ca", "", "`file` with the CAs in PEM whose certificates clients must present")
	fs.Var(switchFlag(&o.insecure), "insecure", "allow HTTP off loopback, to callers and to Vault, and VAULT_SKIP_VERIFY")
	fs.Var(switchFlag(&o.version), versionFlag, "print version and commit, and exit")
	return fs
}

// versionFlag is no setting, so the environment does not set it.
const versionFlag = "version"

// parseOptions reads flags, then the environment for those not given. The
// returned error wraps errUsage, or is flag.ErrHelp or errVersion.
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
	if o.version {
		return nil, errVersion
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
		if !ok || value == "" || given[f.Name] || f.Name == versionFlag {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("invalid value %q for %s: %w", value, name, err))
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
	case o.perAddress <= 0:
		return errors.New("-refused-logins-per-address must be more than 0")
	case o.perAccount <= 0:
		return errors.New("-refused-logins-per-account must be more than 0")
	case o.config != "" && len(o.realms.byName) > 0:
		return errors.New("-realm and -config exclude each other: put the realm into the file")
	case hclog.LevelFromString(o.logLevel) == hclog.NoLevel:
		return fmt.Errorf("-log-level %q is none of trace, debug, info, warn, error, off", o.logLevel)
	}
	if err := o.checkAddresses(); err != nil {
		return err
	}
	return errors.Join(o.checkTLS(), o.checkPublicURL())
}

func (o *options) checkAddresses() error {
	for _, a := range o.addresses() {
		if _, _, err := net.SplitHostPort(a.value); err != nil {
			return fmt.Errorf("-%s %q must be host:port, such as 127.0.0.1:8080 or :8080", a.flag, a.value)
		}
	}
	return nil
}

type address struct{ flag, value string }

// addresses are those to listen on. Without a value net.Listen would take every one
// of the machine, so only the flag that may be left out may be empty.
func (o *options) addresses() []address {
	all := []address{{"listen", o.listen}}
	if o.adminListen != "" {
		all = append(all, address{"admin-listen", o.adminListen})
	}
	return all
}

// checkTLS refuses to let tokens cross the network in clear.
func (o *options) checkTLS() error {
	switch {
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return errors.New("-tls-cert and -tls-key go together")
	case o.clientCA != "" && o.tlsCert == "":
		return errors.New("-tls-client-ca needs -tls-cert and -tls-key")
	case o.tlsCert != "" || o.insecure:
		return nil
	}
	for _, a := range o.addresses() {
		if host, _, err := net.SplitHostPort(a.value); err != nil || !isLoopback(host) {
			return fmt.Errorf("-%s %q is not on loopback: it needs -tls-cert and -tls-key, or -insecure", a.flag, a.value)
		}
	}
	return nil
}

func (o *options) checkPublicURL() error {
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

// plainFlag is a flag of one plain value. Those of package flag say "parse error" of what
// they do not take, and not what they would.
type plainFlag[T any] struct {
	value *T
	parse func(string) (T, error)
	rule  string
}

func durationFlag(value *time.Duration, fallback time.Duration) *plainFlag[time.Duration] {
	*value = fallback
	return &plainFlag[time.Duration]{value, time.ParseDuration, "must be a duration with a unit, such as 500ms, 10s or 1m30s"}
}

func numberFlag(value *int, fallback int) *plainFlag[int] {
	*value = fallback
	return &plainFlag[int]{value, strconv.Atoi, "must be a whole number"}
}

func switchFlag(value *bool) *plainFlag[bool] {
	return &plainFlag[bool]{value, strconv.ParseBool, "must be true or false"}
}

// String implements flag.Value. Package flag also asks one that was not made above.
func (f *plainFlag[T]) String() string {
	if f.value == nil {
		return fmt.Sprint(*new(T))
	}
	return fmt.Sprint(*f.value)
}

// Set implements flag.Value.
func (f *plainFlag[T]) Set(text string) error {
	value, err := f.parse(text)
	if err != nil {
		return errors.New(f.rule)
	}
	*f.value = value
	return nil
}

// IsBoolFlag lets a switch be given without a value.
func (f *plainFlag[T]) IsBoolFlag() bool {
	_, ok := any(*new(T)).(bool)
	return ok
}

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

// prefixFlag collects addresses and networks.
type prefixFlag struct{ all []netip.Prefix }

// String implements flag.Value.
func (f *prefixFlag) String() string { return "" }

// Set implements flag.Value.
func (f *prefixFlag) Set(value string) error {
	for one := range strings.SplitSeq(value, ",") {
		one = strings.TrimSpace(one)
		prefix, err := netip.ParsePrefix(one)
		if err != nil {
			addr, err := netip.ParseAddr(one)
			if err != nil {
				return fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", one)
			}
			prefix = netip.PrefixFrom(addr.Unmap().WithZone(""), addr.Unmap().BitLen())
		}
		f.all = append(f.all, prefix)
	}
	return nil
}
