// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
)

const day = 24 * time.Hour

// Limits of an interval that a tenant has for itself.
const (
	MinInterval = time.Hour
	MaxInterval = 3650 * day
)

// RotationIntervals are the intervals that an organization may have, and a tenant
// beside any duration within the limits.
var RotationIntervals = []string{"90_DAYS", "120_DAYS", "180_DAYS", "365_DAYS"}

// IntervalLength returns the length of an interval as it is stored: one of
// [RotationIntervals], or a duration as [FormatInterval] writes it. It returns 0 for
// none.
func IntervalLength(interval string) time.Duration {
	if count, named := strings.CutSuffix(interval, "_DAYS"); named {
		days, err := strconv.Atoi(count)
		if err != nil {
			return 0
		}
		return time.Duration(days) * day
	}
	length, err := parseutil.ParseDurationSecond(interval)
	if err != nil {
		return 0
	}
	return length
}

// FormatInterval writes a duration of whole seconds in the largest unit that divides
// it, as Vault's duration strings have it: 30d, 36h, 90m, 3601s.
func FormatInterval(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d%unit.length == 0 {
			return fmt.Sprintf("%d%s", d/unit.length, unit.name)
		}
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
