// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/evidencecmd"
)

const (
	largeTenantID = "5f0c8d1e-2b7a-4c39-9e64-1d7b3a90c2f5"
	largeItems    = 50_000
	// killAfter is how much of the rotation is done when the plugin is killed, in percent.
	killAfter = 25
	// rotationTries is how often a rotation is begun that is to be caught in the middle.
	rotationTries = 3
)

// secondAct rotates the key of a large tenant while clients use it, and kills the plugin
// in the middle.
func (d *demonstration) secondAct(ctx context.Context) error {
	c, err := client.New(d.stack.Client(), client.WithMount(devstack.Mount), client.WithRetries(0))
	if err != nil {
		return err
	}
	// One page at a time, so that there is a middle.
	one := 1
	if _, err := c.Configure(ctx, client.ConfigChange{RotationParallelism: &one}); err != nil {
		return fmt.Errorf("configure the engine: %w", err)
	}
	tenant, err := c.Tenant(largeTenantID)
	if err != nil {
		return err
	}
	name := "Large tenant"
	if _, err := tenant.Write(ctx, client.TenantSettings{DisplayName: &name}); err != nil {
		return fmt.Errorf("create the tenant: %w", err)
	}
	clients := newTraffic(tenant, largeItems)
	began := time.Now()
	if err := clients.fill(ctx); err != nil {
		return fmt.Errorf("write the tenant's secrets: %w", err)
	}
	d.step("Second act: another tenant has %s secrets, written in %s", grouped(largeItems), since(began))
	kept, err := d.keepCheckpoint(ctx)
	if err != nil {
		return err
	}
	d.step("Rotate its key while %d clients read and %d write, and kill the plugin in the middle", trafficReaders, trafficWriters)
	stop := clients.run(ctx)
	r, err := d.rotateAndKill(ctx, tenant)
	if stopped := stop(); err == nil {
		err = stopped
	}
	if err != nil {
		return err
	}
	fmt.Printf("   clients made %s reads and %s writes, and repeated %s of them; the slowest took %s\n",
		grouped(clients.reads.Load()), grouped(clients.writes.Load()), grouped(clients.repeated.Load()),
		time.Duration(clients.slowest.Load()).Round(time.Millisecond))
	d.step("Check that nothing is lost")
	return d.checkLarge(ctx, tenant, clients, r, kept)
}

// rotateAndKill follows a rotation to its end. If one has ended before the plugin could be
// killed, another is begun.
func (d *demonstration) rotateAndKill(ctx context.Context, tenant *client.Tenant) (*client.Rotation, error) {
	ctx, cancel := context.WithTimeout(ctx, followLimit)
	defer cancel()
	for range rotationTries {
		r, err := tenant.Rotate(ctx, client.RotationRequest{Reason: "the demo"})
		if err != nil {
			return nil, fmt.Errorf("start the rotation: %w", err)
		}
		began := time.Now()
		if r, err = d.until(ctx, tenant, r.ID, killAfter, nil); err != nil {
			return nil, err
		}
		if r.Status.Ended() {
			continue
		}
		killed, err := d.stack.PluginPIDs()
		if err != nil {
			return nil, err
		}
		if err := d.stack.KillPlugin(); err != nil {
			return nil, err
		}
		fmt.Printf("   plugin killed with SIGKILL at %s of %s secrets, %s after the start\n",
			grouped(int64(total(r.ItemsRotated))), grouped(largeItems), since(began))
		if r, err = d.toTheEnd(ctx, tenant, r.ID); err != nil {
			return nil, err
		}
		now, err := d.stack.PluginPIDs()
		if err != nil || len(now) == 0 || slices.Equal(now, killed) {
			return nil, errors.Join(errors.New("the plugin was not killed"), err)
		}
		fmt.Printf("   completed in %s, by a new process that went on where the killed one was\n", since(began))
		return r, nil
	}
	return nil, errors.New("every rotation has ended before the plugin could be killed")
}

// toTheEnd shows the progress of a rotation until it has completed.
func (d *demonstration) toTheEnd(ctx context.Context, tenant *client.Tenant, id string) (*client.Rotation, error) {
	terminal := term.IsTerminal(int(os.Stdout.Fd())) // #nosec G115 -- a file descriptor
	bar := newBar(largeItems, terminal)
	r, err := d.until(ctx, tenant, id, 101, func(r *client.Rotation) { _ = bar.Set(total(r.ItemsRotated)) })
	if err != nil {
		return nil, err
	}
	if err := bar.Finish(); err != nil {
		return nil, err
	}
	if !terminal {
		fmt.Println("   " + strings.TrimSpace(bar.String()))
	}
	if r.Status != client.Completed || r.ItemsFailed != 0 {
		return nil, fmt.Errorf("the rotation ended as %q with %d items failed", r.Status, r.ItemsFailed)
	}
	return r, nil
}

// until follows a rotation until it has ended or come so far. While the plugin is started
// again, the question is repeated.
func (d *demonstration) until(ctx context.Context, tenant *client.Tenant, id string, percent float64, progress func(*client.Rotation)) (*client.Rotation, error) {
	for {
		r, err := tenant.Rotation(ctx, id)
		if err == nil && progress != nil {
			progress(r)
		}
		if err == nil && (r.Status.Ended() || r.Percent >= percent) {
			return r, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(errors.New("the rotation does not end"), err)
		case <-time.After(repeatPause):
		}
	}
}

// keptEvidence is what an auditor takes along before the rotation.
type keptEvidence struct {
	vkey       string
	checkpoint []byte
	size       int64
}

func (d *demonstration) keepCheckpoint(ctx context.Context) (keptEvidence, error) {
	var kept keptEvidence
	for path, field := range map[string]string{"evidence/key": "vkey", "evidence/checkpoint": "checkpoint"} {
		secret, err := d.stack.Client().Logical().ReadWithContext(ctx, devstack.Mount+"/"+path)
		if err != nil || secret == nil {
			return kept, errors.Join(fmt.Errorf("read %s", path), err)
		}
		text, _ := secret.Data[field].(string)
		if field == "vkey" {
			kept.vkey = text
			continue
		}
		kept.checkpoint = []byte(text)
		if kept.size, err = strconv.ParseInt(fmt.Sprint(secret.Data["size"]), 10, 64); err != nil {
			return kept, fmt.Errorf("read %s: %w", path, err)
		}
	}
	return kept, nil
}

func (d *demonstration) checkLarge(ctx context.Context, tenant *client.Tenant, clients *traffic, r *client.Rotation, kept keptEvidence) error {
	same, rewritten, err := clients.compare(ctx)
	if err != nil || same != largeItems {
		return errors.Join(fmt.Errorf("%s of %s secrets read back", grouped(int64(same)), grouped(largeItems)), err)
	}
	fmt.Printf("   ok  %s of %s secrets read back as last written, %s of them by clients meanwhile\n",
		grouped(int64(same)), grouped(largeItems), grouped(int64(rewritten)))
	if err := d.checkVersions(ctx, tenant.ID(), rotation{PreviousKeyID: r.PreviousKeyID, NewKeyID: r.NewKeyID}); err != nil {
		return err
	}
	if err := d.checkLog(ctx); err != nil {
		return err
	}
	source := evidencecmd.Source(d.stack.Client(), devstack.Mount)
	result, err := verify.Log(ctx, source, verify.Options{VKeys: []string{kept.vkey}, Kept: kept.checkpoint})
	if err != nil {
		return fmt.Errorf("verify the evidence log: %w", err)
	}
	if !result.OK() || !result.Trusted || result.Size <= kept.size {
		return fmt.Errorf("the evidence log does not verify: %d findings, %d entries", len(result.Broken), result.Size)
	}
	fmt.Printf("   ok  evidence log verified: %d entries, the first %d as kept before the rotation\n", result.Size, kept.size)
	return nil
}

// grouped writes a number with commas.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
