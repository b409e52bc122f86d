// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

const canonicalUUID = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`

var (
	keyIDForm      = regexp.MustCompile(`^dek-` + canonicalUUID + `$`)
	rotationIDForm = regexp.MustCompile(`^rot-` + canonicalUUID + `$`)
	uuidForm       = regexp.MustCompile(`^` + canonicalUUID + `$`)
)

// check says what is wrong with a value, or nothing.
type check func(v any) string

func isA[T any](name string) check {
	return func(v any) string {
		if _, ok := v.(T); !ok {
			return fmt.Sprintf("is %T, want %s", v, name)
		}
		return ""
	}
}

var (
	isText   = isA[string]("a string")
	isNumber = isA[float64]("a number")
	isList   = isA[[]any]("a list")
	isNull   = check(func(v any) string {
		if v != nil {
			return fmt.Sprintf("is %T, want null", v)
		}
		return ""
	})
	isTime = check(func(v any) string {
		text, _ := v.(string)
		if _, err := time.Parse(time.RFC3339, text); err != nil || !strings.HasSuffix(text, "Z") {
			return fmt.Sprintf("is %v, want a time of RFC 3339 in UTC", v)
		}
		return ""
	})
	isKeyID, isRotationID = matches(keyIDForm), matches(rotationIDForm)
	isUUID                = matches(uuidForm)
)

func matches(form *regexp.Regexp) check {
	return func(v any) string {
		if text, ok := v.(string); !ok || !form.MatchString(text) {
			return fmt.Sprintf("is %v, want %s", v, form)
		}
		return ""
	}
}

func is(want any) check {
	return func(v any) string {
		if !assert.ObjectsAreEqual(want, v) {
			return fmt.Sprintf("is %v (%T), want %v (%T)", v, v, want, want)
		}
		return ""
	}
}

// fields is what an object must have: these and no others.
type fields map[string]check

func (f fields) check(t *testing.T, object map[string]any) {
	t.Helper()
	assert.ElementsMatch(t, slices.Collect(maps.Keys(f)), slices.Collect(maps.Keys(object)), "the fields")
	for name, c := range f {
		if wrong := c(object[name]); wrong != "" {
			assert.Fail(t, name+" "+wrong)
		}
	}
}

// refused checks an error of Vault's: its status, that there is a message which
// has all of the words, and that there is no more than that.
func refused(t *testing.T, a answer, status int, words ...string) {
	t.Helper()
	require.Equal(t, status, a.Status, "%s", a.Raw)
	require.NotEmpty(t, a.errors(), "an error has a message")
	for _, word := range words {
		assert.Contains(t, a.errors(), word)
	}
	if status != http.StatusConflict {
		assert.Nil(t, a.data())
	}
}

// succeeded requires 200 and returns the data.
func succeeded(t *testing.T, a answer) map[string]any {
	t.Helper()
	require.Equal(t, http.StatusOK, a.Status, a.errors())
	assert.Nil(t, a.Body["warnings"])
	require.NotNil(t, a.data())
	return a.data()
}

// keys requires 200 and returns what a list has.
func keys(t *testing.T, a answer) []string {
	t.Helper()
	list, ok := succeeded(t, a)["keys"].([]any)
	require.True(t, ok, "keys is no list")
	names := make([]string, len(list))
	for i, k := range list {
		names[i], ok = k.(string)
		require.True(t, ok, "key %d is no string", i)
	}
	return names
}

// emptyList requires what Vault answers to a list of nothing.
func emptyList(t *testing.T, a answer) {
	t.Helper()
	assert.Equal(t, http.StatusNotFound, a.Status)
	assert.Equal(t, []any{}, a.Body["errors"], "%s", a.Raw)
}

// tenantPath is the path of a tenant, and of what is below it.
func tenantPath(id string, parts ...string) string {
	return strings.Join(append([]string{"dek/tenants", id}, parts...), "/")
}

// put writes one item and returns its revision.
func put(t *testing.T, s *devstack.Stack, path string, body map[string]any) float64 {
	t.Helper()
	data := succeeded(t, callRoot(t, s, http.MethodPut, path, body))
	revision, ok := data["revision"].(float64)
	require.True(t, ok, "no revision")
	return revision
}

// withMount mounts the engine once more, for a test that changes what all
// tenants of a mount share.
func withMount(t *testing.T, s *devstack.Stack) string {
	t.Helper()
	path := "dek-" + uuid.NewString()[:8]
	a := callRoot(t, s, http.MethodPost, "sys/mounts/"+path, map[string]any{"type": "vault-plugin-dek"})
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
	t.Cleanup(func() {
		// The test's context has ended by now.
		assert.NoError(t, s.Client().Sys().Unmount(path))
	})
	return path
}

// decoded is a JSON document of a test's own.
func decoded(t *testing.T, document string) map[string]any {
	t.Helper()
	var object map[string]any
	require.NoError(t, json.Unmarshal([]byte(document), &object))
	return object
}

// text is that many letters.
func text(n int) string { return strings.Repeat("x", n) }
