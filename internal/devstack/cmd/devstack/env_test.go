// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestQuote(t *testing.T) {
	for _, value := range []string{"", "plain", "it's", `$(id) "\ `, "two\nlines"} {
		out, err := exec.Command("sh", "-c", "printf %s "+quote(value)).Output()
		require.NoError(t, err)
		assert.Equal(t, value, string(out))
	}
}

func TestShownHidesTheToken(t *testing.T) {
	assert.Equal(t, `"authorization: Bearer $ACCESS_TOKEN"`, shown("authorization: Bearer eyJ.x.y", "eyJ.x.y"))
	assert.Equal(t, `'accept: application/json'`, shown("accept: application/json", "eyJ.x.y"))
}
