// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// otherKey is a key that never signed the log.
const otherKey = "example.com/other+33b2ba9a+AQnTwyZNA+vO+EIKE8ckSDVxLCGnkJw+bQEHoAHDXZgN"

// TestPageVerifiesTheLog lets the browser verify the log: against the key that the log
// names, one that was brought, a checkpoint that was kept, and against what does not
// belong to it.
func TestPageVerifiesTheLog(t *testing.T) {
	browser := chrome(t)
	s := shared(t)
	tenant := namedTenant(t, s, "Evidence")
	kept, _ := callRoot(t, s, http.MethodGet, "dek/evidence/checkpoint", nil).data()["checkpoint"].(string)
	vkey, _ := callRoot(t, s, http.MethodGet, "dek/evidence/key", nil).data()["vkey"].(string)
	require.NotEmpty(t, kept)
	require.NotEmpty(t, vkey)
	waitRotation(t, s, tenant, rotate(t, s, tenant), "completed")

	b := newTab(browser, t, s)
	b.signIn("jwt", mint(t, s, "", "auditor"))
	for name, tc := range map[string]struct{ vkey, kept, says string }{
		"its own key":        {"", "", "Checked against the key that the log names itself."},
		"a key from outside": {vkey, "", "Checked against the key that you brought."},
		"a kept checkpoint":  {"", kept, "The log goes on from the checkpoint that you kept."},
		"another key":        {otherKey, "", "no key that is known signed the checkpoint"},
		"another checkpoint": {"", tampered(kept), "it does not go on from the checkpoint that you kept"},
		"no key":             {"key", "", "not in the form expected"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, 200, b.open("/ui/evidence/verify"))
			for field, value := range map[string]string{"input[name=vkey]": tc.vkey, "textarea[name=kept]": tc.kept} {
				if value != "" {
					b.fill(field, value)
				}
			}
			b.awaitElement("#verify button:enabled")
			b.evaluate("document.querySelector('#verify button').click()", nil)
			b.await(tc.says)
		})
	}

	t.Run("entries", func(t *testing.T) {
		require.Equal(t, 200, b.open("/ui/evidence"))
		assert.Contains(t, b.text(), "rotation-completed")
		require.Equal(t, 200, b.press("#entries tbody a"))
		assert.Contains(t, b.text(), "c2sp.org/tlog-proof@v1")
		require.Equal(t, 200, b.open("/ui/tenants/"+tenant))
		require.Equal(t, 200, b.press("#evidence tbody a"))
		assert.Contains(t, b.text(), tenant)
	})
	t.Run("report", func(t *testing.T) {
		day := func(d int) string { return time.Now().UTC().AddDate(0, 0, d).Format(time.DateOnly) }
		require.Equal(t, 200, b.open("/ui/evidence/report?from="+day(-1)+"&to="+day(1)+"&tenant="+tenant))
		assert.Contains(t, b.text(), "What holds")
		assert.NotContains(t, b.text(), "What does not hold")
		assert.Contains(t, b.text(), "completed")
		require.Equal(t, 200, b.open("/ui/evidence/report?from=yesterday&to="+day(1)))
		assert.Contains(t, b.text(), "The dates must be days")
	})
}

// tampered is a checkpoint with another root hash of the same size.
func tampered(note string) string {
	raw := []byte(note)
	lines := 0
	for i, c := range raw {
		if c == '\n' {
			lines++
		}
		if lines == 2 && i+1 < len(raw) {
			if raw[i+1] == 'A' {
				raw[i+1] = 'B'
			} else {
				raw[i+1] = 'A'
			}
			break
		}
	}
	return string(raw)
}
