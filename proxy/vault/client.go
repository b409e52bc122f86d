// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// maxAnswer bounds what is read of an answer of Vault. A rotation with a
// hundred failures is a few kilobytes.
const maxAnswer = 4 << 20

// roleForm is Vault's own rule for the names of roles (framework.GenericNameRegex).
var roleForm = regexp.MustCompile(`^\w([\w.-]*\w)?$`)

var mountForm = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)

// Config says where the engine is, how callers log in to it, and how long to wait.
type Config struct {
	// API is the client's configuration; nil takes api.DefaultConfig, which
	// reads VAULT_ADDR, VAULT_CACERT and the like.
	API *api.Config
	// Mount is the engine's path, "dek" by default.
	Mount string
	// AuthMount is the path of the JWT auth method, "jwt" by default, and Role the
	// role to log in with, "dek" by default.
	AuthMount, Role string
	// UserpassMount is the path of the userpass auth method, "userpass" by default.
	UserpassMount string
	// Namespace is the namespace of the mounts; empty takes VAULT_NAMESPACE.
	Namespace string
	// UserAgent is what the client calls itself; empty: as the library does.
	UserAgent string
	// Timeout bounds each call, 10 seconds by default.
	Timeout time.Duration
}

func (cfg *Config) setDefaults() {
	for path, fallback := range map[*string]string{
		&cfg.Mount: "dek", &cfg.AuthMount: "jwt", &cfg.UserpassMount: "userpass",
	} {
		if *path = strings.Trim(*path, "/"); *path == "" {
			*path = fallback
		}
	}
	if cfg.Role == "" {
		cfg.Role = "dek"
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
}

func (cfg *Config) check() error {
	for name, path := range map[string]string{
		"mount": cfg.Mount, "auth mount": cfg.AuthMount, "userpass mount": cfg.UserpassMount,
	} {
		if !validMount(path) {
			return fmt.Errorf("%s %q: want letters, digits, '_', '.', '-' and '/' between parts, none of them '.' or '..'", name, path)
		}
	}
	if !roleForm.MatchString(cfg.Role) {
		return fmt.Errorf("role %q: want letters, digits, '_', '.' and '-', the last two not at either end", cfg.Role)
	}
	return nil
}

// Client is a Vault over HTTP. It is safe for concurrent use. Each call is made
// with the caller's token and bounded by the timeout. Errors are an *Error where
// Vault answered, and wrap ErrUnreachable or ErrTimeout where it did not.
type Client struct {
	api  *api.Client
	http *http.Client
	cfg  Config
}

// New returns a Client. It does not connect.
func New(cfg Config) (*Client, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	conf := cfg.API
	if conf == nil {
		conf = api.DefaultConfig()
	}
	if conf.Error != nil {
		return nil, fmt.Errorf("vault client configuration: %w", conf.Error)
	}
	// The library would repeat a failed write with a new request ID, that is as
	// a new write; and its own timeout ends before the body is read.
	conf.MaxRetries = 0
	conf.Timeout = 0
	keepConnections(conf)
	client, err := api.NewClient(conf)
	if err != nil {
		return nil, fmt.Errorf("vault client: %w", err)
	}
	// Even if VAULT_TOKEN is set, a caller's request never runs with the
	// proxy's rights, and VAULT_WRAP_TTL would hide every answer.
	client.ClearToken()
	client.SetWrappingLookupFunc(func(string, string) string { return "" })
	if cfg.Namespace != "" {
		client.SetNamespace(cfg.Namespace)
	}
	if cfg.UserAgent != "" {
		client.AddHeader("User-Agent", cfg.UserAgent)
	}
	return &Client{api: client, http: conf.HttpClient, cfg: cfg}, nil
}

// connections is how many idle connections to Vault are kept: enough for all logins
// at once and as many calls. The library keeps one more than there are processors, so
// that a busy proxy would shake hands for most of its calls.
const connections = 128

func keepConnections(conf *api.Config) {
	if transport, ok := conf.HttpClient.Transport.(*http.Transport); ok {
		transport.MaxIdleConns, transport.MaxIdleConnsPerHost = connections, connections
	}
}

// Server is the URL of Vault.
func (c *Client) Server() string { return c.api.Address() }

// ID tells Vaults, their namespaces and mounts from each other. It holds no secret.
func (c *Client) ID() string {
	return strings.Join([]string{
		c.api.Address(), c.api.Namespace(), c.cfg.Mount, c.cfg.AuthMount, c.cfg.Role, c.cfg.UserpassMount,
	}, "\x00")
}

// validMount reports whether a path names a mount and nothing above it.
func validMount(mount string) bool {
	return mountForm.MatchString(mount) && path.Clean("/"+mount) == "/"+mount
}

// Rotate starts a rotation. The same key gets the same rotation back.
func (c *Client) Rotate(ctx context.Context, token, tenantID, idempotencyKey string) (Rotation, error) {
	var out Rotation
	err := c.write(ctx, token, c.cfg.Mount+"/tenants/"+tenantID+"/dek/rotate",
		map[string]string{"idempotency_key": idempotencyKey}, &answer{Data: &out})
	if err == nil && out.RotationID == "" {
		err = errors.New("vault's answer to a rotate names no rotation")
	}
	return out, err
}

// Rotation reads one rotation of a tenant.
func (c *Client) Rotation(ctx context.Context, token, tenantID, rotationID string) (Rotation, error) {
	var out Rotation
	err := c.read(ctx, token, c.cfg.Mount+"/tenants/"+tenantID+"/dek/rotations/"+rotationID, &answer{Data: &out})
	if err == nil && out.RotationID == "" {
		err = errors.New("vault's answer to a read of a rotation names no rotation")
	}
	return out, err
}

// Settings reads the organization's rotation settings.
func (c *Client) Settings(ctx context.Context, token string) (Settings, error) {
	var out Settings
	err := c.read(ctx, token, c.cfg.Mount+"/key/rotationSettings", &answer{Data: &out})
	if err == nil && !out.complete() {
		err = errors.New("vault's answer to a read of the settings lacks them")
	}
	return out, err
}

// SetSettings changes the rotation interval and returns the new settings. It reads
// them where the write's own answer does not carry them.
func (c *Client) SetSettings(ctx context.Context, token, interval string) (Settings, error) {
	var out Settings
	err := c.write(ctx, token, c.cfg.Mount+"/key/rotationSettings",
		map[string]string{"rotation_interval": interval}, &answer{Data: &out})
	if err != nil {
		return Settings{}, err
	}
	if !out.complete() {
		return c.Settings(ctx, token)
	}
	return out, nil
}

// CheckToken returns an error that tells whether Vault knows the token.
func (c *Client) CheckToken(ctx context.Context, token string) error {
	return c.read(ctx, token, "auth/token/lookup-self", nil)
}

// Revoke ends a token, and nothing else. A batch token cannot be revoked: that is
// an *Error of status 400.
func (c *Client) Revoke(ctx context.Context, token string) error {
	return c.write(ctx, token, "auth/token/revoke-self", nil, nil)
}

// Close ends idle connections. Calls in flight go on.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
}

// answer is what the proxy reads of Vault's JSON.
type answer struct {
	Data any       `json:"data"`
	Auth *authData `json:"auth"`
}

func (c *Client) read(ctx context.Context, token, at string, out *answer) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	resp, err := c.as(ctx, token).ReadRawWithContext(ctx, at)
	return finish(ctx, resp, err, out)
}

func (c *Client) write(ctx context.Context, token, at string, body any, out *answer) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode request to vault: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	resp, err := c.as(ctx, token).WriteRawWithContext(ctx, at, raw)
	return finish(ctx, resp, err, out)
}

// as returns a view of the client that sends one caller's token; the client
// itself has none.
func (c *Client) as(ctx context.Context, token string) *api.Logical {
	return c.api.WithRequestCallbacks(func(r *api.Request) {
		r.ClientToken = token
		if r.Headers == nil {
			r.Headers = http.Header{}
		}
		setHeaders(ctx, r.Headers)
	}).Logical()
}

// errRedirect is what is left of a redirect where the library has followed one
// already, or does not follow it: a standby whose leader is a standby too.
var errRedirect = fmt.Errorf("%w: it redirects", ErrUnreachable)

// finish reads an answer and closes it.
func finish(ctx context.Context, resp *api.Response, err error, out *answer) error {
	if resp != nil {
		defer func() { _ = resp.Body.Close() }()
	}
	if err != nil {
		return answerError(ctx, resp, err)
	}
	if resp.StatusCode/100 == 3 {
		return errRedirect
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answerError(ctx, nil, err)
	}
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(out); err != nil {
		// The decoder's message may quote the answer, and that may be a token.
		return errors.New("vault's answer is not the JSON expected")
	}
	return nil
}
