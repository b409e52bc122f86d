// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDemo runs what make demo runs, to the end of its second act.
func TestDemo(t *testing.T) {
	bin, err := buildDevstack()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), bin, "-stop-with-parent", "demo")
	cmd.Env = os.Environ()
	out, err := cmd.CombinedOutput()
	text := string(out)
	require.NoError(t, err, text)
	at := 0
	for _, want := range []string{
		`(?m)^1\. A real Vault, the plugin and the proxy are running`,
		`(?m)^2\. Tenant \S+ has 25 credentials, 10 API keys and 50 secrets$`,
		`(?m)^3\. Rotate its key, as a security admin, with the documented command:$`,
		`(?m)^4\. Follow rotation rot-`,
		`(?m)^   re-encrypting 100% .*\(85/85\)$`,
		`(?m)^5\. Check what it did\n   ok  85 of 85 items read back as they were written\n`,
		`(?m)^6\. Second act: another tenant has 50,000 secrets, written in [0-9.]+ s$`,
		`(?m)^7\. Rotate its key while 4 clients read and 2 write, and kill the plugin in the middle$`,
		`(?m)^   plugin killed with SIGKILL at [0-9,]+ of 50,000 secrets, [0-9.]+ s after the start$`,
		`(?m)^   re-encrypting 100% .*\(50000/50000\)$`,
		`(?m)^   clients made [1-9][0-9,]* reads and [1-9][0-9,]* writes, and repeated [0-9,]+ of them; the slowest took [0-9.]+m?s$`,
		`(?m)^8\. Check that nothing is lost\n   ok  50,000 of 50,000 secrets read back as last written, [1-9][0-9,]* of them by clients meanwhile$`,
		`(?m)^   ok  0 pages on the old version [0-9]+, whose key is destroyed; [0-9]+ pages on version [0-9]+$`,
		`(?m)^   ok  WAL empty: no rotation is unfinished$`,
		`(?m)^   ok  evidence log verified: [0-9]+ entries, the first [0-9]+ as kept before the rotation$`,
		`(?m)^9\. Stopped, nothing left behind\. The demo took [0-9.]+ s$`,
	} {
		found := regexp.MustCompile(want).FindStringIndex(text[at:])
		require.NotNil(t, found, "%s\n%s", want, text)
		at += found[1]
	}
	for line := range strings.Lines(text) {
		assert.Less(t, utf8.RuneCountInString(line), 100+1, line)
	}
}
