// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"html"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// verifyTexts are the texts that verify.js shows.
var verifyTexts = []string{
	"ok", "own", "outside", "goes-on", "bad-root", "bad-sig", "bad-kept", "bad-note", "failed", "no-alg",
}

// TestVerificationHasItsTexts: the script has no text of its own.
func TestVerificationHasItsTexts(t *testing.T) {
	all, err := newViews(time.Now)
	require.NoError(t, err)
	w := httptest.NewRecorder()
	all.show(&visit{w: w}, 200, "verify", "", nil)
	for _, name := range verifyTexts {
		require.Contains(t, html.UnescapeString(w.Body.String()), `data-`+name+`="`+text("verify."+name)+`"`)
	}
}
