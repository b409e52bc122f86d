// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// followLimit is far more than 85 items need on the slowest machine.
const followLimit = 2 * time.Minute

// follow asks for the rotation's status, as documented, until it has ended.
func (d *demonstration) follow(ctx context.Context, rotationID string) error {
	ctx, cancel := context.WithTimeout(ctx, followLimit)
	defer cancel()
	began := time.Now()
	terminal := term.IsTerminal(int(os.Stdout.Fd())) // #nosec G115 -- a file descriptor
	bar := newBar(len(d.items), terminal)
	for {
		r, err := d.status(ctx, rotationID)
		if err != nil {
			return fmt.Errorf("ask for the rotation's status: %w", err)
		}
		if err := bar.Set(total(r.ItemsRotated)); err != nil {
			return err
		}
		switch r.Status {
		case "in_progress":
		case "completed":
			if err := bar.Finish(); err != nil {
				return err
			}
			if !terminal {
				fmt.Println("   " + strings.TrimSpace(bar.String()))
			}
			if r.ItemsFailed != 0 {
				return fmt.Errorf("the rotation completed with %d items failed", r.ItemsFailed)
			}
			fmt.Printf("   completed in %s\n", since(began))
			return nil
		default:
			return fmt.Errorf("the rotation ended as %q", r.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the rotation has not completed: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// newBar is a progress bar that is drawn on a terminal alone: elsewhere drawing
// it again and again would fill the log.
func newBar(items int, terminal bool) *progressbar.ProgressBar {
	var out io.Writer = os.Stdout
	if !terminal {
		out = io.Discard
	}
	return progressbar.NewOptions(items,
		progressbar.OptionSetWriter(out),
		progressbar.OptionSetDescription("   re-encrypting"),
		progressbar.OptionShowCount(),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetWidth(40),
		progressbar.OptionOnCompletion(func() { _, _ = fmt.Fprintln(out) }),
	)
}

// status is the documented call: "use the rotation ID to check status".
func (d *demonstration) status(ctx context.Context, rotationID string) (rotation, error) {
	url := d.stack.ProxyURL() + "/api/v1/admin/dek/rotate/" + rotationID
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return rotation{}, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+d.jwt)
	req.Header.Set("X-TenantID", tenantID)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return rotation{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Data  rotation `json:"data"`
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return rotation{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return rotation{}, fmt.Errorf("%s: %s", resp.Status, answer.Error.Message)
	}
	return answer.Data, nil
}

// check proves that every item is there, that nothing needs the old key, which
// is gone, and that no intent is left in Vault's write-ahead log.
func (d *demonstration) check(ctx context.Context, r rotation) error {
	same, err := d.stack.CountSame(ctx, tenantID, d.items)
	if err != nil {
		return fmt.Errorf("%d of %d items read back: %w", same, len(d.items), err)
	}
	fmt.Printf("   ok  %d of %d items read back as they were written\n", same, len(d.items))
	if err := d.checkVersions(ctx, tenantID, r); err != nil {
		return err
	}
	return d.checkLog(ctx)
}

// keyVersion is what the demo reads of the engine's list of versions.
type keyVersion struct {
	Version int    `json:"version"`
	KeyID   string `json:"key_id"`
	State   string `json:"state"`
	Pages   int    `json:"pages"`
}

func (d *demonstration) checkVersions(ctx context.Context, tenantID string, r rotation) error {
	secret, err := d.stack.Client().Logical().ReadWithContext(ctx, "dek/tenants/"+tenantID+"/dek")
	if err != nil {
		return fmt.Errorf("read the key's versions: %w", err)
	}
	if secret == nil {
		return errors.New("read the key's versions: there are none")
	}
	data, err := json.Marshal(secret.Data["versions"])
	if err != nil {
		return err
	}
	var versions []keyVersion
	if err := json.Unmarshal(data, &versions); err != nil {
		return fmt.Errorf("read the key's versions: %w", err)
	}
	states := map[string]keyVersion{}
	for _, v := range versions {
		states[v.KeyID] = v
	}
	before, after := states[r.PreviousKeyID], states[r.NewKeyID]
	if before.Pages != 0 || before.State != "destroyed" {
		return fmt.Errorf("old version %d: %d pages are still on it, its state is %q; want 0 and destroyed",
			before.Version, before.Pages, before.State)
	}
	if after.State != "active" || after.Pages == 0 {
		return fmt.Errorf("new version %d: %d pages are on it, its state is %q; want all and active",
			after.Version, after.Pages, after.State)
	}
	fmt.Printf("   ok  0 pages on the old version %d, whose key is destroyed; %s on version %d\n",
		before.Version, plural(after.Pages, "page"), after.Version)
	return nil
}

func (d *demonstration) checkLog(ctx context.Context) error {
	secret, err := d.stack.Client().Logical().ListWithContext(ctx, "dek/rotations")
	if err != nil {
		return fmt.Errorf("list unfinished rotations: %w", err)
	}
	if secret != nil { // an empty list is Vault's 404
		return fmt.Errorf("unfinished rotations are left: %v", secret.Data["keys"])
	}
	fmt.Println("   ok  WAL empty: no rotation is unfinished")
	return nil
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
