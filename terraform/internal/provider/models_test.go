// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// A write of the configuration names what the plan changes, and nothing that others may
// have changed since it was read.
func TestConfigSendsOnlyWhatChanges(t *testing.T) {
	var was configModel
	was.take(&client.Config{
		OrgID: "acme", RetiredKeyRetention: client.Duration(time.Hour), MaxItemBytes: 5, DataKeyLease: client.Duration(time.Minute),
		MinDeletionWindow:        client.Duration(24 * time.Hour),
		MinDeletionWindowPending: &client.PendingWindow{MinDeletionWindow: client.Duration(time.Hour)},
	})
	now := was
	require.Equal(t, client.ConfigChange{}, now.change(&was))
	now.RetiredKeyRetention = spelled("3600", false)
	now.MinDeletionWindow = spelled("60m", false) // the one that is to come
	require.Equal(t, client.ConfigChange{}, now.change(&was), "another spelling")

	now.MaxItemBytes = types.Int64Value(6)
	now.OrgID = types.StringUnknown()
	now.CacheBytes = types.Int64Unknown()
	require.Equal(t, client.ConfigChange{MaxItemBytes: new(6)}, now.change(&was))
	now.DataKeyLease = spelled("0", false)
	now.OrgID = types.StringValue("globex")
	require.Equal(t, client.ConfigChange{
		MaxItemBytes: new(6), DataKeyLease: new(client.Duration(0)), OrgID: new("globex"),
	}, now.change(&was))
}

// What the engine counts as a credential may not be given where it would lie in the state.
func TestCredentialsAreThoseOfTheEngine(t *testing.T) {
	files, err := filepath.Glob("../../../backend/internal/kms/*.go")
	require.NoError(t, err)
	list, word := regexp.MustCompile(`Credentials += \[\]string\{([^}]*)\}`), regexp.MustCompile(`"[^"]*"`)
	var found int
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, names := range list.FindAllStringSubmatch(string(text), -1) {
			for _, quoted := range word.FindAllString(names[1], -1) {
				name, err := strconv.Unquote(quoted)
				require.NoError(t, err)
				require.Contains(t, credentials, name, file)
				found++
			}
		}
	}
	require.GreaterOrEqual(t, found, 5, "transit's and those of AWS")
}

// fieldsOf are the names that the fields of a struct have under a tag.
func fieldsOf(of any, tag string) (names []string) {
	t := reflect.TypeOf(of)
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get(tag), ",")
		names = append(names, name)
	}
	return names
}

// What the engine answers the data sources tell, field by field.
func TestDataSourcesTellEveryField(t *testing.T) {
	require.ElementsMatch(t, fieldsOf(client.Status{}, "json"), fieldsOf(statusModel{}, "tfsdk"))
	require.ElementsMatch(t, fieldsOf(client.Rotation{}, "json"), fieldsOf(rotationModel{}, "tfsdk"))

	status := statusOf(&client.Status{EvidencePending: 4, DamagedEntries: map[string]int{"pages": 2}})
	require.EqualValues(t, 4, status.EvidencePending)
	require.Equal(t, map[string]int64{"pages": 2}, status.DamagedEntries)
	var r rotationModel
	r.take(&client.Rotation{Failures: []client.PageFailure{{Page: "p01", Reason: "it does not open"}}, ItemsPerSecond: 1.5})
	require.Equal(t, []failureModel{{"p01", "it does not open"}}, r.Failures)
	require.Equal(t, 1.5, r.ItemsPerSecond) //nolint:testifylint // it is passed on as it is
}
