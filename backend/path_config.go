// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"regexp"
	"time"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/deletion"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
)

func (b *backend) configPaths() []*framework.Path {
	answer := api.OK("The configuration.", map[string]*framework.FieldSchema{
		"min_deletion_window":         api.Described(framework.TypeInt, "Seconds that a deleted tenant can be restored at least: what is in force."),
		"min_deletion_window_pending": api.Described(framework.TypeMap, "The lower one that is to come: min_deletion_window in seconds, and takes_effect_at; null: none."),
		"org_id":                      api.Described(framework.TypeString, "The organization's ID."),
		"rotation_parallelism":        api.Described(framework.TypeInt, "Pages in flight over all tenants."),
		"max_item_bytes":              api.Described(framework.TypeInt, "Bytes that an encoded item may have."),

		"retired_key_retention":    api.Described(framework.TypeInt, "Seconds that a key is kept after nothing is on it."),
		"max_concurrent_rotations": api.Described(framework.TypeInt, "Rotations that the schedule has unfinished at a time."),
		"scheduler_jitter":         api.Described(framework.TypeInt, "Seconds over which rotations that are due at once are spread."),
		"cache_bytes":              api.Described(framework.TypeInt64, "Bytes that the caches may take together; 0: the machine's memory decides."),
		"data_key_lease":           api.Described(framework.TypeInt, "Seconds that a caller may go on using a data key."),
		"kek_rotation_interval":    api.Described(framework.TypeInt, "Seconds that the key-encryption key may get old; 0: it is rotated by hand alone."),

		"manual_rotations_per_hour": api.Described(framework.TypeInt, "Rotations of one tenant that callers may start in an hour; 0: there is no limit."),
	})
	return []*framework.Path{{
		Pattern: "config$",
		Fields: map[string]*framework.FieldSchema{
			"org_id": {
				Type:        framework.TypeString,
				Description: "The organization's ID. Default: the mount's UUID.",
			},
			"rotation_parallelism": {
				Type:        framework.TypeInt,
				Description: "How many pages rotations have in flight, over all tenants: 1 to 32. Holds for running rotations too. Default: 32.",
			},
			"max_item_bytes": {
				Type:        framework.TypeInt,
				Description: "How many bytes an encoded item, data and metadata together, may have: 1 to 393216. Default: 262144.",
			},
			"retired_key_retention": {
				Type:        framework.TypeDurationSecond,
				Description: "How long a key is kept after a rotation has left it; 0 destroys it at once. Holds for rotations that end later. Default: 168h.",
			},
			"max_concurrent_rotations": {
				Type:        framework.TypeInt,
				Description: "How many rotations the schedule has unfinished at a time: 1 to 1024. Default: 64.",
			},
			"min_deletion_window": {
				Type: framework.TypeDurationSecond,
				Description: "How long a deleted tenant can be restored at least: 0 to 720h. Raising it holds at once; lowering it once the " +
					"one in force has passed, or at once while there is no tenant. Default: 24h.",
			},
			"scheduler_jitter": {
				Type:        framework.TypeDurationSecond,
				Description: "The schedule spreads rotations that are due at once over this time: 0 to 30 days. Default: 24h.",
			},
			"cache_bytes": {
				Type: framework.TypeInt,
				Description: "How many bytes of memory the caches may take together: 67108864 (64 MiB) to 68719476736; 0 is a 128th " +
					"of the machine's memory, or a quarter of GOMEMLIMIT, and at least 64 MiB. Default: 0.",
			},
			"data_key_lease": {
				Type: framework.TypeDurationSecond,
				Description: "How long a caller may go on using a data key, which datakey tells with each: 0 (for one text only) " +
					"to 24h. Default: 1h.",
			},
			"kek_rotation_interval": {
				Type: framework.TypeDurationSecond,
				Description: "How old the key-encryption key may get before it is rotated by itself: to 3650d; 0: by hand alone. " +
					"Default: 365d.",
			},
			"manual_rotations_per_hour": {
				Type: framework.TypeInt,
				Description: "How many rotations of one tenant callers may start (dek/rotate, dek/import) in an hour: 0 (no limit) to " +
					"100000. Requests for many rotations do not count. Default: 60.",
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   b.On(b.readConfig, "read configuration", "Read the configuration.", answer),
			logical.UpdateOperation: b.On(b.updateConfig, "configure", "Change the fields that are named.", answer),
		},
		HelpSynopsis:    "Configure the engine.",
		HelpDescription: "Only the fields that a write names change, and they change at once.",
	}}
}

func (b *backend) readConfig(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	c, err := b.settings.StoredConfig(ctx)
	if err != nil {
		return nil, err
	}
	return b.configResponse(c), nil
}

func (b *backend) updateConfig(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	var used map[int]bool
	if d.Raw["min_deletion_window"] != nil {
		var err error
		if used, err = b.tenants.UsedShards(ctx); err != nil {
			return nil, err
		}
	}
	c, err := b.settings.UpdateConfig(ctx, func(c *settings.Config) error {
		orgID, named, err := api.TextField(d, "org_id")
		if err != nil {
			return err
		}
		if named {
			if orgID == "" {
				return api.Invalid("org_id must not be empty")
			}
			c.OrgID = orgID
		}
		if err := boundedField(d, "rotation_parallelism", 1, settings.MaxParallelism, &c.RotationParallelism); err != nil {
			return err
		}
		if err := boundedField(d, "max_item_bytes", 1, settings.MaxItemBytes, &c.MaxItemBytes); err != nil {
			return err
		}
		if err := boundedField(d, "max_concurrent_rotations", 1, maxConcurrentRotations, &c.MaxConcurrentRotations); err != nil {
			return err
		}
		if err := boundedField(d, "manual_rotations_per_hour", 0, maxManualRotations, &c.ManualRotationsPerHour); err != nil {
			return err
		}
		if err := minDeletionField(d, c, b.now(), len(used) == 0); err != nil {
			return err
		}
		if err := cacheBytesField(d, &c.CacheBytes); err != nil {
			return err
		}
		lease := c.DataKeyLease
		if c.Repaired {
			lease = settings.MaxDataKeyLease // it is not known what was in force
		}
		err = durationFields(d, c)
		c.NoteLease(lease, b.now())
		return err
	})
	if err != nil {
		return nil, err
	}
	b.schedule.BudgetChanged()
	b.kek.Drive() // it may be due now
	resp := b.configResponse(c)
	if c.Repaired {
		resp.AddWarning("the configuration could not be read and is written anew: what this request does not name has its default, " +
			"and min_deletion_window is 720h")
	}
	return resp, nil
}

// durationFields sets the durations that the request names, but for the least deletion
// window.
func durationFields(d *framework.FieldData, c *settings.Config) error {
	for _, f := range []struct {
		name string
		most time.Duration
		to   *time.Duration
	}{
		{"retired_key_retention", maxRetention, &c.RetiredKeyRetention},
		{"scheduler_jitter", maxJitter, &c.SchedulerJitter},
		{"data_key_lease", settings.MaxDataKeyLease, &c.DataKeyLease},
		{"kek_rotation_interval", settings.MaxInterval, &c.KEKRotationInterval},
	} {
		if err := durationField(d, f.name, f.most, f.to); err != nil {
			return err
		}
	}
	return nil
}

// minDeletionField sets the least deletion window, if the request names it. empty says
// that the mount has no tenant.
func minDeletionField(d *framework.FieldData, c *settings.Config, now time.Time, empty bool) error {
	raw, named := d.Raw["min_deletion_window"]
	if !named || raw == nil {
		return nil
	}
	window, err := durationOf("min_deletion_window", raw, deletion.MaxWindow)
	if err == nil {
		c.SetMinDeletion(window, now, empty)
	}
	return err
}

// cacheBytesField sets n to the field cache_bytes, if the request names it.
func cacheBytesField(d *framework.FieldData, n *int) error {
	value, named, err := api.IntField(d, "cache_bytes")
	if err != nil || !named {
		return err
	}
	if value != 0 && (value < settings.MinCacheBytes || value > settings.MaxCacheBytes) {
		return api.Invalid("cache_bytes must be 0 or from %d to %d", settings.MinCacheBytes, int64(settings.MaxCacheBytes))
	}
	*n = value
	return nil
}

// The bounds of the configuration.
const (
	maxConcurrentRotations = 1024
	maxManualRotations     = 100_000
	maxRetention           = 10 * 366 * 24 * time.Hour
	maxJitter              = 30 * 24 * time.Hour
)

// durationField sets to to a field, if the request names it.
func durationField(d *framework.FieldData, field string, most time.Duration, to *time.Duration) error {
	raw, named := d.Raw[field]
	if !named || raw == nil {
		return nil
	}
	value, err := durationOf(field, raw, most)
	if err == nil {
		*to = value
	}
	return err
}

// durationOf parses a duration. Durations here destroy keys when they are 0, so
// what only might mean 0 is refused: nothing, and a part of a second.
func durationOf(field string, raw any, most time.Duration) (time.Duration, error) {
	value, err := parseutil.ParseDurationSecond(raw)
	if text, isText := raw.(string); err != nil && isText && tooLong.MatchString(text) {
		return 0, api.Invalid("%s must be from 0 to %dh", field, most/time.Hour)
	}
	if _, whole := api.WholeNumber(raw); err == nil && !whole {
		text, isText := raw.(string)
		if !isText || text == "" {
			err = errNotDuration
		}
	}
	if err != nil || value%time.Second != 0 {
		return 0, api.Invalid("%s must be a duration of whole seconds, such as 24h or 86400", field)
	}
	if value < 0 || value > most {
		return 0, api.Invalid("%s must be from 0 to %dh", field, most/time.Hour)
	}
	return value, nil
}

// tooLong is a duration that time.Duration, which ends at 292 years, cannot hold.
var tooLong = regexp.MustCompile(`^[0-9]{6,}(s|m|h|d)?$`)

var errNotDuration = errors.New("not a duration")

// boundedField sets n to a field, if the request names it.
func boundedField(d *framework.FieldData, field string, least, most int, n *int) error {
	value, named, err := api.IntField(d, field)
	if err != nil || !named {
		return err
	}
	if value < least || value > most {
		return api.Invalid("%s must be from %d to %d", field, least, most)
	}
	*n = value
	return nil
}

func (b *backend) configResponse(c settings.Config) *logical.Response {
	least, lower := c.MinDeletion(b.now())
	var pending any
	if lower != nil {
		pending = map[string]any{
			"min_deletion_window": int64(lower.Window.Seconds()), "takes_effect_at": api.Time(lower.At),
		}
	}
	return &logical.Response{Data: map[string]any{
		"org_id":               c.OrgID,
		"rotation_parallelism": c.RotationParallelism,
		"max_item_bytes":       c.MaxItemBytes,

		"retired_key_retention":       int64(c.RetiredKeyRetention.Seconds()),
		"max_concurrent_rotations":    c.MaxConcurrentRotations,
		"min_deletion_window":         int64(least.Seconds()),
		"min_deletion_window_pending": pending,
		"scheduler_jitter":            int64(c.SchedulerJitter.Seconds()),
		"cache_bytes":                 c.CacheBytes,
		"data_key_lease":              int64(c.DataKeyLease.Seconds()),
		"kek_rotation_interval":       int64(c.KEKRotationInterval.Seconds()),
		"manual_rotations_per_hour":   c.ManualRotationsPerHour,
	}}
}
