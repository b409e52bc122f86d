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
	fleetOverdue = iota // a rotation of it was paused, and forgotten
	fleetPaused         // the schedule passes it over
	fleetFailed         // a page of it does not open
)

const (
	fleetInFlight = 8
	// pauseTries is how often a rotation is begun that is to be paused before it ends.
	pauseTries = 20
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
	if err := f.pauseRotation(ctx, fleetID(fleetOverdue)); err != nil {
		return fmt.Errorf("pause a rotation: %w", err)
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
	return f.write(ctx, "tenants/"+fleetID(fleetFailed)+"/dek/rotate", map[string]any{"reason": "a page of it does not open"})
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

// create makes a tenant with a few items; the one whose rotation is to be paused has more,
// so that there is time to.
func (f *fleet) create(ctx context.Context, n int) error {
	settings := map[string]any{
		"display_name": fmt.Sprintf("%s %02d", fleetSectors[n%len(fleetSectors)], 1+n/len(fleetSectors)), "rotation_paused": n == fleetPaused,
	}
	if err := f.write(ctx, "tenants/"+fleetID(n), settings); err != nil {
		return err
	}
	count, size := 1+n%7, 1
	if n == fleetOverdue {
		count, size = 100, 1000
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

// pauseRotation begins a rotation and pauses it.
func (f *fleet) pauseRotation(ctx context.Context, tenantID string) error {
	path := tenantPath(tenantID) + "/dek/"
	var err error
	for range pauseTries {
		var secret *api.Secret
		if secret, err = f.client.Logical().WriteWithContext(ctx, path+"rotate", map[string]any{"reason": "is paused, and forgotten"}); err != nil {
			continue // the one before has not ended yet
		}
		if _, err = f.client.Logical().WriteWithContext(ctx, fmt.Sprintf("%srotations/%v/pause", path, secret.Data["rotation_id"]), nil); err == nil {
			return nil
		}
	}
	return err
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

// setBack sets all dates in a tenant's record back. Seeding may begin anew after it was
// interrupted, so a record that is old already stays as it is.
func (f *fleet) setBack(ctx context.Context, n int) error {
	path := f.recordPath(fleetID(n))
	record, err := f.readRaw(ctx, path)
	if err != nil {
		return err
	}
	created, _ := record["created_at"].(string)
	if at, err := time.Parse(time.RFC3339Nano, created); err != nil || time.Since(at) > 24*time.Hour {
		return err
	}
	shifted := shift(record, -time.Duration(ageOf(n))*24*time.Hour)
	value, err := json.Marshal(shifted)
	if err != nil {
		return err
	}
	return f.writeRaw(ctx, path, string(value))
}

// shift moves the dates in a decoded JSON value, the fields whose names end with _at.
func shift(value any, by time.Duration) any {
	switch v := value.(type) {
	case map[string]any:
		for name, field := range v {
			text, isText := field.(string)
			at, err := time.Parse(time.RFC3339Nano, text)
			if isText && strings.HasSuffix(name, "_at") && err == nil {
				v[name] = at.Add(by).Format(time.RFC3339Nano)
				continue
			}
			v[name] = shift(field, by)
		}
	case []any:
		for i := range v {
			v[i] = shift(v[i], by)
		}
	}
	return value
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
