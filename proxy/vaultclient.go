// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

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

var mountForm = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)

// ClientConfig says where the engine is and how long to wait for it.
type ClientConfig struct {
	// API is the client's configuration; nil takes api.DefaultConfig, which
	// reads VAULT_ADDR, VAULT_CACERT and the like.
	API *api.Config
	// Mount is the engine's path, "dek" by default.
	Mount string
	// UserpassMount is the path of the userpass auth method, "userpass" by default.
	UserpassMount string
	// Timeout bounds each call, 10 seconds by default.
	Timeout time.Duration
}

// Client is a Vault over HTTP. It is safe for concurrent use.
type Client struct {
	api      *api.Client
	mount    string
	userpass string
	timeout  time.Duration
}

var _ Vault = (*Client)(nil)

// NewClient returns a Client. It does not connect.
func NewClient(cfg ClientConfig) (*Client, error) {
	c := &Client{mount: trimMount(cfg.Mount, "dek"), userpass: trimMount(cfg.UserpassMount, "userpass"), timeout: cfg.Timeout}
	for name, mount := range map[string]string{"mount": c.mount, "userpass mount": c.userpass} {
		if !validMount(mount) {
			return nil, fmt.Errorf("%s %q: want letters, digits, '_', '.', '-' and '/' between parts", name, mount)
		}
	}
	if c.timeout <= 0 {
		c.timeout = 10 * time.Second
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
	client, err := api.NewClient(conf)
	if err != nil {
		return nil, fmt.Errorf("vault client: %w", err)
	}
	// Whatever VAULT_TOKEN says, a caller's request never runs with the
	// proxy's rights, and VAULT_WRAP_TTL would hide every answer.
	client.ClearToken()
	client.SetWrappingLookupFunc(func(string, string) string { return "" })
	c.api = client
	return c, nil
}

// validMount reports whether a path names a mount and nothing above it.
func validMount(mount string) bool {
	return mountForm.MatchString(mount) && path.Clean("/"+mount) == "/"+mount
}

func trimMount(mount, fallback string) string {
	if mount = strings.Trim(mount, "/"); mount == "" {
		return fallback
	}
	return mount
}

// Rotate implements Vault.
func (c *Client) Rotate(ctx context.Context, token, tenantID, idempotencyKey string) (Rotation, error) {
	var out Rotation
	err := c.write(ctx, token, c.mount+"/tenants/"+tenantID+"/dek/rotate",
		map[string]string{"idempotency_key": idempotencyKey}, &answer{Data: &out})
	if err == nil && out.RotationID == "" {
		err = errors.New("vault's answer to a rotate names no rotation")
	}
	return out, err
}

// Rotation implements Vault.
func (c *Client) Rotation(ctx context.Context, token, tenantID, rotationID string) (Rotation, error) {
	var out Rotation
	err := c.read(ctx, token, c.mount+"/tenants/"+tenantID+"/dek/rotations/"+rotationID, &answer{Data: &out})
	if err == nil && out.RotationID == "" {
		err = errors.New("vault's answer to a read of a rotation names no rotation")
	}
	return out, err
}

// Settings implements Vault.
func (c *Client) Settings(ctx context.Context, token string) (Settings, error) {
	var out Settings
	err := c.read(ctx, token, c.mount+"/key/rotationSettings", &answer{Data: &out})
	return out, err
}

// SetSettings implements Vault. It answers with a read where the write's own
// answer does not carry the settings.
func (c *Client) SetSettings(ctx context.Context, token, interval string) (Settings, error) {
	var out Settings
	err := c.write(ctx, token, c.mount+"/key/rotationSettings",
		map[string]string{"rotation_interval": interval}, &answer{Data: &out})
	if err != nil {
		return Settings{}, err
	}
	if out.RotationInterval == "" || len(out.ValidRotationIntervals) == 0 {
		return c.Settings(ctx, token)
	}
	return out, nil
}

// CheckToken implements Vault.
func (c *Client) CheckToken(ctx context.Context, token string) error {
	return c.read(ctx, token, "auth/token/lookup-self", nil)
}

// Health implements Vault.
func (c *Client) Health(ctx context.Context) (Health, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	// sys/health answers in the root namespace only.
	sys := c.api.WithNamespace("").Sys()
	h, err := sys.HealthWithContext(ctx)
	if err != nil {
		return Health{}, answerError(ctx, nil, err)
	}
	health := Health{
		Initialized: h.Initialized, Sealed: h.Sealed, Standby: h.Standby,
		DRSecondary: h.ReplicationDRMode == "secondary", Version: h.Version,
	}
	if h.Standby && !h.Sealed {
		leader, err := sys.LeaderWithContext(ctx)
		if err != nil {
			return Health{}, answerError(ctx, nil, err)
		}
		health.Leaderless = leader.HAEnabled && leader.LeaderAddress == ""
	}
	return health, nil
}

// answer is what the proxy reads of Vault's JSON.
type answer struct {
	Data any       `json:"data"`
	Auth *authData `json:"auth"`
}

func (c *Client) read(ctx context.Context, token, at string, out *answer) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.as(token).ReadRawWithContext(ctx, at)
	return finish(ctx, resp, err, out)
}

func (c *Client) write(ctx context.Context, token, at string, body map[string]string, out *answer) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode request to vault: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.as(token).WriteRawWithContext(ctx, at, raw)
	return finish(ctx, resp, err, out)
}

// as returns a view of the client that sends one caller's token; the client
// itself has none.
func (c *Client) as(token string) *api.Logical {
	return c.api.WithRequestCallbacks(func(r *api.Request) { r.ClientToken = token }).Logical()
}

// finish reads an answer and closes it.
func finish(ctx context.Context, resp *api.Response, err error, out *answer) error {
	if resp != nil {
		defer func() { _ = resp.Body.Close() }()
	}
	if err != nil {
		return answerError(ctx, resp, err)
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
