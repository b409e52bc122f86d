// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr/xattr"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
	"github.com/stretchr/testify/require"
)

func spelled(text string, interval bool) duration {
	return duration{basetypes.NewStringValue(text), interval}
}

func TestSpellingsOfOneLengthAreOneValue(t *testing.T) {
	for _, test := range []struct {
		interval bool
		is       string // how the engine spells it
		same     []string
	}{
		{false, "90d", []string{"90d", "2160h", "129600m", "7776000", "7776000s", "2159h60m", "0090d"}},
		{false, "36h", []string{"36h", "2160m", "129600"}},
		{false, "3601s", []string{"1h1s", "3601"}},
		{false, "0s", []string{"0", "0s", "0h", "0d"}},
		{true, "90_DAYS", []string{"90_DAYS", "90d", "2160h", "7776000"}},
		{true, "365_DAYS", []string{"8760h"}},
		{true, "", []string{""}},
	} {
		for _, text := range test.same {
			same, diags := spelled(text, test.interval).StringSemanticEquals(t.Context(), spelled(test.is, test.interval))
			require.Empty(t, diags)
			require.True(t, same, "%s and %s", text, test.is)
			length, err := spelled(text, test.interval).length()
			require.NoError(t, err)
			if !test.interval {
				require.Equal(t, test.is, durationOf(length).ValueString())
				require.Equal(t, length, time.Duration(*spelled(text, false).sent()))
			}
		}
	}
}

func TestOtherLengthsAreOtherValues(t *testing.T) {
	for _, test := range [][2]duration{
		{spelled("90d", false), spelled("91d", false)},
		{spelled("0", false), {interval: false}}, // null
		{spelled("", true), spelled("365_DAYS", true)},
		{spelled("1h", false), {basetypes.NewStringUnknown(), false}},
		{spelled("nonsense", false), spelled("other", false)},
		{spelled("nonsense", false), spelled("0", false)},
	} {
		require.False(t, test[0].sameLength(test[1]), "%s and %s", test[0], test[1])
		require.False(t, test[1].sameLength(test[0]), "%s and %s", test[1], test[0])
	}
}

func TestWhatIsNoDuration(t *testing.T) {
	for _, test := range []struct {
		interval bool
		texts    []string
	}{
		{false, []string{"", " ", "soon", "1.5s", "-1h", "1d12h", "1w", "9223372036854775807", "106752d", "90_DAYS", "٩0d", "90d\n", "<configured>"}},
		{true, []string{" ", "91_DAYS", "_DAYS", "-90_DAYS", "090_DAYS", "90_days", "90_DAYS ", "soon", "1500ms"}},
	} {
		for _, text := range test.texts {
			var resp xattr.ValidateAttributeResponse
			spelled(text, test.interval).ValidateAttribute(t.Context(), xattr.ValidateAttributeRequest{}, &resp)
			require.True(t, resp.Diagnostics.HasError(), "%q", text)
		}
	}
	var resp xattr.ValidateAttributeResponse
	duration{basetypes.NewStringUnknown(), false}.ValidateAttribute(t.Context(), xattr.ValidateAttributeRequest{}, &resp)
	duration{basetypes.NewStringNull(), false}.ValidateAttribute(t.Context(), xattr.ValidateAttributeRequest{}, &resp)
	require.Empty(t, resp.Diagnostics)
}

// The engine takes an interval's name, or one spelling of each length.
func TestIntervalsAsTheyAreSent(t *testing.T) {
	for text, want := range map[string]string{"": "", "90_DAYS": "90_DAYS", "90d": "90d", "2160h": "90d", "7776000": "90d", "3601s": "3601s"} {
		require.Equal(t, want, *spelled(text, true).sentInterval())
	}
	require.Nil(t, duration{basetypes.NewStringNull(), true}.sentInterval())
	require.Nil(t, duration{basetypes.NewStringUnknown(), false}.sent())
}

func TestAnotherSpellingIsNotPlanned(t *testing.T) {
	for _, test := range []struct{ was, planned, want string }{
		{"90d", "2160h", "90d"}, {"90d", "91d", "91d"}, {"2160h", "90_DAYS", "2160h"},
	} {
		resp := planmodifier.StringResponse{PlanValue: basetypes.NewStringValue(test.planned)}
		keepSpelling{interval: true}.PlanModifyString(t.Context(), planmodifier.StringRequest{
			StateValue: basetypes.NewStringValue(test.was), PlanValue: resp.PlanValue,
		}, &resp)
		require.Equal(t, test.want, resp.PlanValue.ValueString())
	}
	resp := planmodifier.StringResponse{PlanValue: basetypes.NewStringValue("1h")}
	keepSpelling{}.PlanModifyString(t.Context(), planmodifier.StringRequest{StateValue: basetypes.NewStringNull(), PlanValue: resp.PlanValue}, &resp)
	require.Equal(t, "1h", resp.PlanValue.ValueString(), "there was none")
}
