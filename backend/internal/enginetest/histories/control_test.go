// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package histories

import (
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// rotate makes a request of a key administrator. Which rotations were acknowledged
// is noted: each must end.
func (c *client) rotate() {
	c.round.changeClock(c)
	m := c.round.cluster.serving()
	path := "tenants/" + pick(c.random, lasting, lasting, lasting, mortal) + "/dek"
	switch n := c.random.IntN(12); {
	case n < 4:
		data := map[string]any{"reason": pick(c.random, "", "leak")}
		resp, err := m.Call(logical.UpdateOperation, path+"/rotate", data)
		if err == nil && resp.Data["tenant_id"] == lasting {
			c.round.started(resp.Data["rotation_id"].(string))
		}
	case n < 8:
		c.act(path, pick(c.random, "cancel", "cancel", "pause", "resume", "resume", "retry"))
	case n < 9:
		_, _ = m.Call(logical.UpdateOperation, "rotations", pick(c.random,
			map[string]any{"all": true}, map[string]any{"tenants": []any{lasting}, "include_paused": true}))
	case n < 10:
		_, _ = m.Call(logical.UpdateOperation, "kek/rotate", nil)
	case n < 11:
		_, _ = m.Call(logical.UpdateOperation, "config", map[string]any{
			"retired_key_retention": pick(c.random, "0", "1h", "168h"), "rotation_parallelism": pick(c.random, 1, 4, 32),
		})
	default:
		_, _ = m.Call(logical.RollbackOperation, "", map[string]any{"immediate": true})
	}
}

// act does something to the latest rotation.
func (c *client) act(path, action string) {
	m := c.round.cluster.serving()
	resp, err := m.Call(logical.ListOperation, path+"/rotations", nil)
	if err != nil || resp.Data["keys"] == nil {
		return
	}
	latest := resp.Data["keys"].([]string)[0]
	_, _ = m.Call(logical.UpdateOperation, path+"/rotations/"+latest+"/"+action, nil)
}

// changeClock lets the clock jump now and then, by hours: never so far that a deletion's
// window ends.
func (r *round) changeClock(c *client) {
	if c.random.IntN(8) == 0 {
		r.cluster.clock.Jump(time.Duration(c.random.IntN(11)-5) * time.Hour)
	}
}

// encrypt seals a text for the tenant that stays, or opens what was sealed.
func (c *client) encrypt() {
	m := c.round.cluster.serving()
	c.made++
	text := enginetest.Encoded(fmt.Sprintf("%d/%d", c.number, c.made))
	resp, err := m.Call(logical.UpdateOperation, "tenants/"+lasting+"/encrypt", map[string]any{"plaintext": text, "associated_data": text})
	if err == nil {
		c.round.sealed(enginetest.Sealed{
			Ciphertext: resp.Data["ciphertext"].(string), Plaintext: text, AD: text, Version: resp.Data["key_version"].(int),
		})
	}
	texts := c.round.sealedSoFar()
	if len(texts) == 0 {
		return
	}
	s := pick(c.random, texts...)
	resp, err = m.Call(logical.UpdateOperation, "tenants/"+lasting+"/decrypt", map[string]any{"ciphertext": s.Ciphertext, "associated_data": s.AD})
	if code := enginetest.Code(resp, err); code != http.StatusOK {
		require.GreaterOrEqual(c.round.t, code, http.StatusTooManyRequests, "a ciphertext of version %d does not open: %v", s.Version, err)
		return
	}
	require.Equal(c.round.t, s.Plaintext, resp.Data["plaintext"])
}
