// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/vault/api"
	"golang.org/x/sync/errgroup"
)

// FleetSize is how many tenants [Stack.SeedFleet] makes.
const FleetSize = 200

// The tenants of the fleet that need attention, by number.
const (
	fleetOverdue = iota // its rotation was cancelled, so the schedule waits for a day
	fleetPaused         // the schedule passes it over
	fleetFailed         // a page of it does not open
)

const (
	fleetInFlight = 8
	fleetPatience = time.Minute
)

var fleetSectors = []string{"Retail", "Logistics", "Energy", "Insurance", "Health", "Travel", "Media", "Education", "Housing", "Food"}

// fleet makes tenants that differ as those of a service do.
type fleet struct {
	stack  *Stack
	client *api.Client
	base   string // of the mount's entries below sys/raw
}

// SeedFleet creates [FleetSize] tenants with some items and keys of different ages, of
// which one is overdue, one is paused, and of one the latest rotation has failed. Nothing
// in the engine makes a key old but time. So the dates in the tenants' records are set back
// in storage, through sys/raw, which needs [Options.RawStorage]; the evidence log keeps the
// true ones. The plugin is reloaded at the end.
func (s *Stack) SeedFleet(ctx context.Context) error {
	f := &fleet{stack: s, client: s.Client()}
	mount, err := f.client.Logical().ReadWithContext(ctx, "sys/mounts/"+Mount)
	if err != nil || mount == nil {
		return errors.Join(errors.New("read the mount"), err)
	}
	f.base = fmt.Sprintf("sys/raw/logical/%v/", mount.Data["uuid"])
	if err := f.write(ctx, "config", map[string]any{"rotation_parallelism": 1}); err != nil {
		return err
	}
	err = f.seed(ctx)
	return errors.Join(err, f.write(ctx, "config", map[string]any{"rotation_parallelism": 32}))
}

func (f *fleet) seed(ctx context.Context) error {
	if err := f.each(ctx, f.create); err != nil {
		return fmt.Errorf("create the tenants of the fleet: %w", err)
	}
	if err := f.each(ctx, f.setBack); err != nil {
		return fmt.Errorf("set dates of the fleet back: %w", err)
	}
	if err := f.spoilPage(ctx, fleetID(fleetFailed)); err != nil {
		return fmt.Errorf("spoil a page: %w", err)
	}
	if err := f.stack.ReloadPlugin(ctx); err != nil { // it has records and pages in memory
		return err
	}
	if err := f.write(ctx, "tenants/"+fleetID(fleetFailed)+"/dek/rotate", map[string]any{"reason": "a page of it does not open"}); err != nil {
		return err
	}
	// Until its rotation is cancelled, the schedule would rotate a tenant that is overdue.
	if err := f.cancelRotation(ctx, fleetID(fleetOverdue)); err != nil {
		return fmt.Errorf("cancel a rotation: %w", err)
	}
	return f.write(ctx, "tenants/"+fleetID(fleetOverdue), map[string]any{"rotation_paused": false})
}

func (f *fleet) each(ctx context.Context, do func(ctx context.Context, n int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fleetInFlight)
	for n := range FleetSize {
		g.Go(func() error { return do(ctx, n) })
	}
	return g.Wait()
}

func (f *fleet) write(ctx context.Context, path string, data map[string]any) error {
	_, err := f.client.Logical().WriteWithContext(ctx, Mount+"/"+path, data)
	return err
}

// fleetID is the same in every stack.
func fleetID(n int) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "https://devstack.invalid/fleet/%d", n)).String()
}

// create makes a tenant with a few items; the one whose rotation is to be cancelled has
// more, so that there is time to.
func (f *fleet) create(ctx context.Context, n int) error {
	settings := map[string]any{
		"display_name": fmt.Sprintf("%s %02d", fleetSectors[n%len(fleetSectors)], 1+n/len(fleetSectors)), "rotation_paused": n == fleetPaused || n == fleetOverdue,
	}
	if err := f.write(ctx, "tenants/"+fleetID(n), settings); err != nil {
		return err
	}
	count, size := 1+n%7, 1
	if n == fleetOverdue {
		count, size = 200, 1000
	}
	items := make([]Item, count)
	for i := range items {
		items[i] = Item{Kind: "secrets", Name: fmt.Sprintf("service/secret-%d", i), Data: map[string]any{"value": strings.Repeat(rand.Text(), size)}}
	}
	secret, err := f.client.Logical().WriteWithContext(ctx, tenantPath(fleetID(n))+"/items", map[string]any{"items": items})
	if err != nil {
		return err
	}
	return eachWritten(secret, len(items))
}

// cancelRotation begins a rotation, cancels it, and waits until it is rolled back.
func (f *fleet) cancelRotation(ctx context.Context, tenantID string) error {
	path := tenantPath(tenantID) + "/dek/"
	secret, err := f.client.Logical().WriteWithContext(ctx, path+"rotate", map[string]any{"reason": "is cancelled"})
	if err != nil {
		return err
	}
	rotation := fmt.Sprintf("%srotations/%v", path, secret.Data["rotation_id"])
	if _, err = f.client.Logical().WriteWithContext(ctx, rotation+"/cancel", nil); err != nil {
		return err
	}
	return poll(fleetPatience, ctx.Done(), func() (bool, error) {
		now, err := f.client.Logical().ReadWithContext(ctx, rotation)
		return err == nil && now != nil && now.Data["status"] == "rolled_back", err
	})
}

// ageOf is how many days old the key of a tenant is made.
func ageOf(n int) int {
	if n == fleetOverdue {
		return 400
	}
	return 3 + n*37%358
}

func (f *fleet) recordPath(tenantID string) string {
	sum := sha256.Sum256([]byte(tenantID))
	return fmt.Sprintf("%stenants/%x/%s", f.base, sum[:1], tenantID)
}

// setBack makes a tenant and its first key older. What was done to them since keeps its
// dates. Seeding may begin anew after it was interrupted, so a tenant that is old already
// stays as it is.
func (f *fleet) setBack(ctx context.Context, n int) error {
	path := f.recordPath(fleetID(n))
	record, err := f.readRaw(ctx, path)
	if err != nil {
		return err
	}
	keys, _ := record["keys"].(map[string]any)
	versions, _ := keys["versions"].([]any)
	if len(versions) == 0 {
		return errors.New("a tenant's record has no key")
	}
	first, _ := versions[0].(map[string]any)
	for _, date := range []struct {
		of   map[string]any
		name string
	}{{record, "created_at"}, {first, "created_at"}, {first, "activated_at"}} {
		text, _ := date.of[date.name].(string)
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || time.Since(at) > 24*time.Hour {
			return err
		}
		date.of[date.name] = at.AddDate(0, 0, -ageOf(n)).Format(time.RFC3339Nano)
	}
	value, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return f.writeRaw(ctx, path, string(value))
}

// spoilPage writes something else over the pages of a tenant.
func (f *fleet) spoilPage(ctx context.Context, tenantID string) error {
	record, err := f.readRaw(ctx, f.recordPath(tenantID))
	if err != nil {
		return err
	}
	pages := fmt.Sprintf("%spages/%v/", f.base, record["incarnation"])
	listed, err := f.client.Logical().ListWithContext(ctx, pages)
	if err != nil || listed == nil {
		return errors.Join(errors.New("list the pages"), err)
	}
	keys, _ := listed.Data["keys"].([]any)
	for _, key := range keys {
		if name := fmt.Sprint(key); strings.HasPrefix(name, "p") {
			if err := f.writeRaw(ctx, pages+name, "not a page"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *fleet) readRaw(ctx context.Context, path string) (map[string]any, error) {
	secret, err := f.client.Logical().ReadWithContext(ctx, path)
	if err != nil || secret == nil {
		return nil, errors.Join(errors.New("read an entry of storage"), err)
	}
	text, _ := secret.Data["value"].(string)
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.UseNumber()
	var entry map[string]any
	return entry, decoder.Decode(&entry)
}

func (f *fleet) writeRaw(ctx context.Context, path, value string) error {
	_, err := f.client.Logical().WriteWithContext(ctx, path, map[string]any{"value": value})
	return err
}
