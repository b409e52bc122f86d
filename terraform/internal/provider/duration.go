// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/attr/xattr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// durationType is the type of attributes that hold a duration as Vault spells it: 90d,
// 2160h, or whole seconds. Two spellings of one length are the same value, so neither the
// engine's spelling nor another one in the configuration is a change.
//
// An interval is also one of 90_DAYS and its like, or empty for the organization's.
type durationType struct {
	basetypes.StringType
	interval bool
}

// duration is a value of a [durationType].
type duration struct {
	basetypes.StringValue
	interval bool
}

var (
	_ basetypes.StringTypable                    = durationType{}
	_ basetypes.StringValuableWithSemanticEquals = duration{}
	_ xattr.ValidateableAttribute                = duration{}
)

func (t durationType) Equal(o attr.Type) bool {
	other, ok := o.(durationType)
	return ok && other.interval == t.interval
}

func (t durationType) String() string {
	if t.interval {
		return "interval"
	}
	return "duration"
}

func (t durationType) ValueType(context.Context) attr.Value { return duration{interval: t.interval} }

func (t durationType) ValueFromString(_ context.Context, in basetypes.StringValue) (basetypes.StringValuable, diag.Diagnostics) {
	return duration{in, t.interval}, nil
}

func (t durationType) ValueFromTerraform(ctx context.Context, in tftypes.Value) (attr.Value, error) {
	v, err := t.StringType.ValueFromTerraform(ctx, in)
	if err != nil {
		return nil, err
	}
	text, ok := v.(basetypes.StringValue)
	if !ok {
		return nil, fmt.Errorf("a duration arrived as %T", v)
	}
	return duration{text, t.interval}, nil
}

func (d duration) Type(context.Context) attr.Type { return durationType{interval: d.interval} }

func (d duration) Equal(o attr.Value) bool {
	other, ok := o.(duration)
	return ok && d.interval == other.interval && d.StringValue.Equal(other.StringValue)
}

// StringSemanticEquals reports whether both have the same length.
func (d duration) StringSemanticEquals(_ context.Context, o basetypes.StringValuable) (bool, diag.Diagnostics) {
	other, ok := o.(duration)
	return ok && d.sameLength(other), nil
}

func (d duration) sameLength(o duration) bool {
	if !d.isKnown() || !o.isKnown() {
		return d.Equal(o)
	}
	a, errA := d.length()
	b, errB := o.length()
	return errA == nil && errB == nil && a == b
}

// ValidateAttribute refuses what is no duration when the configuration is read, before
// anything is planned.
func (d duration) ValidateAttribute(_ context.Context, req xattr.ValidateAttributeRequest, resp *xattr.ValidateAttributeResponse) {
	if !d.isKnown() {
		return
	}
	if _, err := d.length(); err != nil {
		resp.Diagnostics.AddAttributeError(req.Path, "Not a duration", err.Error())
	}
}

func (d duration) isKnown() bool { return !d.IsNull() && !d.IsUnknown() }

var (
	errDuration = errors.New("a duration is whole seconds, or a number with d, h, m or s behind it, such as 90d or 2160h")
	errInterval = errors.New("an interval is empty, one of 90_DAYS, 120_DAYS, 180_DAYS and 365_DAYS, or a duration such as 30d")
)

// none is the length of an interval that is the organization's. No other has it: the
// least is an hour.
const none = time.Duration(-1)

// length returns how long d is. It fails with a text for people.
func (d duration) length() (time.Duration, error) {
	text, wrong := d.ValueString(), errDuration
	if d.interval {
		wrong = errInterval
		if text == "" {
			return none, nil
		}
		if days, named := strings.CutSuffix(text, "_DAYS"); named {
			n, err := strconv.Atoi(days)
			if err != nil || namedInterval(time.Duration(n)*24*time.Hour) != text {
				return 0, wrong
			}
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	length, err := parseutil.ParseDurationSecond(text)
	if text == "" || err != nil || length < 0 || length%time.Second != 0 {
		return 0, wrong
	}
	return length, nil
}

// namedIntervals are what an organization's keys may be rotated by.
var namedIntervals = []string{"90_DAYS", "120_DAYS", "180_DAYS", "365_DAYS"}

// namedInterval returns the name of the interval of that length, empty if it has none.
func namedInterval(length time.Duration) string {
	for _, name := range namedIntervals {
		if name == fmt.Sprintf("%d_DAYS", length/(24*time.Hour)) && length%(24*time.Hour) == 0 {
			return name
		}
	}
	return ""
}

// durationOf spells a length as the engine spells intervals: in the largest unit that
// divides it.
func durationOf(length time.Duration) duration {
	text := strconv.FormatInt(int64(length/time.Second), 10) + "s"
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if length%unit.length == 0 && length > 0 {
			text = strconv.FormatInt(int64(length/unit.length), 10) + unit.name
			break
		}
	}
	return duration{StringValue: basetypes.NewStringValue(text)}
}

// intervalOf is an interval as the engine spells it.
func intervalOf(text string) duration { return duration{basetypes.NewStringValue(text), true} }

// sent is d for the engine, nil if the configuration leaves it open. It was validated.
func (d duration) sent() *client.Duration {
	if !d.isKnown() {
		return nil
	}
	length, err := d.length()
	if err != nil {
		return nil
	}
	return new(client.Duration(length))
}

// sentInterval is an interval for the engine, which takes it in one spelling of each
// length, nil if the configuration leaves it open.
func (d duration) sentInterval() *string {
	if !d.isKnown() {
		return nil
	}
	text := d.ValueString()
	if length, err := d.length(); err == nil && length != none && !strings.HasSuffix(text, "_DAYS") {
		text = durationOf(length).ValueString()
	}
	return &text
}
