// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"
)

// credentials of the server. With raft they lie in init.json, for the owner
// alone; they are never printed or logged.
type credentials struct {
	UnsealKey string `json:"unseal_key"`
	RootToken string `json:"root_token"`
}

// initAndUnseal initializes a new server, or takes up the one that the data
// directory holds, and waits until it is active.
func (s *Stack) initAndUnseal(ctx context.Context) error {
	initialized, err := s.newClient("").Sys().InitStatusWithContext(ctx)
	if err != nil {
		return fmt.Errorf("ask Vault whether it is initialized: %w", err)
	}
	if initialized {
		err = s.loadCredentials()
	} else {
		err = s.initialize(ctx)
	}
	if err != nil {
		return err
	}
	return s.unseal(ctx)
}

func (s *Stack) initialize(ctx context.Context) error {
	resp, err := s.newClient("").Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		return fmt.Errorf("initialize Vault: %w", err)
	}
	s.creds = credentials{UnsealKey: resp.KeysB64[0], RootToken: resp.RootToken}
	if s.opts.Storage != Raft {
		return nil
	}
	data, err := json.Marshal(s.creds)
	if err != nil {
		return err
	}
	return WriteFile(s.path("init.json"), append(data, '\n'))
}

func (s *Stack) loadCredentials() error {
	data, err := os.ReadFile(s.path("init.json"))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s holds Vault's data but not its unseal key: remove the directory to start anew", s.opts.DataDir)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &s.creds); err != nil {
		return fmt.Errorf("%s: %w", s.path("init.json"), err)
	}
	return nil
}

func (s *Stack) unseal(ctx context.Context) error {
	if _, err := s.newClient("").Sys().UnsealWithContext(ctx, s.creds.UnsealKey); err != nil {
		return fmt.Errorf("unseal Vault: %w", err)
	}
	if s.member {
		return s.waitHealth(ctx, http.StatusOK, http.StatusTooManyRequests)
	}
	return s.waitHealth(ctx, http.StatusOK)
}

// Seal seals Vault. The engine stops, the proxy answers 503.
func (s *Stack) Seal(ctx context.Context) error {
	return s.Client().Sys().SealWithContext(ctx)
}

// Unseal unseals Vault and waits until it is active again.
func (s *Stack) Unseal(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unseal(ctx)
}

// KillVault ends Vault and the plugin with SIGKILL, as a power cut would.
func (s *Stack) KillVault() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vault.kill()
}

// RestartVault starts Vault on its data and address again and waits until it is
// active, or as a node of a cluster unsealed. A server that still runs is stopped
// in order first. It needs Raft: in memory nothing is left.
func (s *Stack) RestartVault(ctx context.Context) error {
	if s.opts.Storage != Raft {
		return fmt.Errorf("restart Vault: storage is %q, which a restart empties; use %q", s.opts.Storage, Raft)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vault.terminate()
	// Someone else may hold one of the ports for a moment, as the local end of
	// a connection. Clients know the address, so wait for it.
	err := poll(readyTimeout, ctx.Done(), func() (bool, error) {
		err := s.startVault(ctx)
		if errors.Is(err, errPortTaken) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("restart Vault: %w", err)
	}
	return s.unseal(ctx)
}

// VaultAddr is Vault's URL.
func (s *Stack) VaultAddr() string {
	return "http://127.0.0.1:" + strconv.Itoa(s.ports.api)
}

// RootToken is Vault's root token. Do not print it.
func (s *Stack) RootToken() string { return s.creds.RootToken }

// Client is a new Vault client with the root token, which tries every request
// once: what a test sees is what Vault answered first.
func (s *Stack) Client() *api.Client { return s.newClient(s.creds.RootToken) }

func (s *Stack) newClient(token string) *api.Client {
	config := api.DefaultConfig()
	config.Address = s.VaultAddr()
	config.AgentAddress = ""
	config.MaxRetries = 0
	config.Timeout = time.Minute
	client, err := api.NewClient(config)
	if err != nil {
		// The address is ours and valid, and the user's settings of clients were
		// taken out of the environment.
		panic(fmt.Sprintf("devstack: Vault client: %v", err))
	}
	client.ClearNamespace()
	client.SetToken(token)
	return client
}
