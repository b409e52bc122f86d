// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"testing"
)

// audit verifies the evidence log at the end of a round as an auditor does: from files
// that dek evidence export wrote, without Vault. The export goes on from the round before.
type audit struct {
	dek       dekProgram
	dir, vkey string
}

func newAudit(t *testing.T, c *clients, dek dekProgram) *audit {
	t.Helper()
	vkey, _ := c.get(http.MethodGet, "dek/evidence/key")["vkey"].(string)
	return &audit{dekProgram{t: t, path: dek.path}, filepath.Join(t.TempDir(), "log"), vkey}
}

// checkEvidence exports the log and verifies it, and looks for the end of the round's
// rotation.
func (c *clients) checkEvidence(a *audit, r *round) {
	node := c.a.live()[0]
	if code, _, stderr := a.dek.run(node, node.RootToken(), "evidence", "export", a.dir); code != 0 {
		c.report(altered, "dek evidence export ended with %d: %s", code, stderr)
		return
	}
	if code, stdout, stderr := a.dek.run(nil, "", "evidence", "verify", a.dir, "--vkey", a.vkey); code != 0 {
		c.report(altered, "dek evidence verify ended with %d: %s%s", code, stdout, stderr)
	}
	code, stdout, stderr := a.dek.run(nil, "", "evidence", "report", a.dir, "--vkey", a.vkey, "--tenant", c.tenant, "--format", "json")
	var said struct {
		Tenants []struct {
			Rotations []struct {
				ID     string `json:"rotation_id"`
				Status string `json:"status"`
			} `json:"rotations"`
		} `json:"tenants"`
	}
	if err := json.Unmarshal([]byte(stdout), &said); code != 0 || err != nil {
		c.report(altered, "dek evidence report ended with %d: %v%s", code, err, stderr)
		return
	}
	for _, t := range said.Tenants {
		for _, rotation := range t.Rotations {
			if rotation.ID == r.id && rotation.Status == r.ended["status"] {
				return
			}
		}
	}
	c.report(lost, "the evidence log has no end of rotation %s, which is %v", r.id, r.ended["status"])
}
