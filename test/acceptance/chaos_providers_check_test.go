// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// watchBystander looks, while the trouble goes on, whether anybody notices whose provider is
// well, and asks for the moves that are to be asked for meanwhile.
func (r *round) watchBystander(late []kekMove) {
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for _, m := range late {
			// It may be refused: it is asked for again.
			if got := r.moveKEK(m); got.refusal() && got.status != http.StatusFailedDependency {
				r.c.report(altered, "the move %v was answered %s", m, got)
			}
		}
	}()
	id := r.fault.providers.bystander
	for end := time.Now().Add(r.plan.providers.lasts); time.Now().Before(end); pass(20 * time.Millisecond) {
		began := time.Now()
		got := r.c.a.ask(http.MethodGet, tenantPath(id, "secrets/own"), nil)
		if value, _ := got.body.Data["data"].(map[string]any); value["v"] != id {
			r.c.report(lost, "a tenant whose key provider is well was answered %s after %s", got, time.Since(began))
			break
		}
	}
	<-asked
}

// checkClosed sees that nothing of the tenant opens any more, if the trouble has met the
// renewal of its KEK and gone on for a lease and a second.
func (r *round) checkClosed() {
	if !r.fault.atRenewal {
		return
	}
	want := http.StatusServiceUnavailable
	if r.plan.providers.troubles[transitProvider] == denies {
		want = http.StatusFailedDependency
	}
	for _, p := range r.proofs()[:2] {
		if got := r.c.a.ask(p.method, p.path, p.body); got.status != want {
			r.c.report(altered, "a lease and a second after its provider was gone, %s was answered %s, want %d", p.path, got, want)
		}
	}
}

// untilMoved waits for the end of a move, and looks at what it came to.
func (r *round) untilMoved(m kekMove) error {
	var last map[string]any
	err := until(moveLimit, func() bool {
		last = r.c.a.ask(http.MethodGet, r.kekPath(m), nil).body.Data
		return last["status"] == "completed" || last["status"] == "failed"
	})
	if err != nil {
		return fmt.Errorf("%w: the move %v is %v: %w", errStuck, m, last, err)
	}
	older, _ := last["older_kek_ids"].([]any)
	if last["status"] != "completed" || last["provider"] != m.to || number(last["keys_failed"]) != 0 || len(older) > 0 {
		r.c.report(lost, "the move %v came to %v", m, last)
	}
	return nil
}

// proof is a request that needs keys.
type proof struct {
	method, path string
	body         any
}

// proofs are requests that need every KEK there is, the first two that of the tenant.
func (r *round) proofs() []proof {
	kek := func(path string) []proof {
		return []proof{
			{http.MethodGet, path + "/secrets/own", nil},
			{http.MethodPut, path + "/encrypt", map[string]any{"plaintext": "eA=="}},
		}
	}
	all := []proof{
		{http.MethodGet, r.c.path(chaosItem(hotItems)), nil}, // which nobody changes
		{http.MethodPut, r.c.path("encrypt"), map[string]any{"plaintext": "eA=="}},
	}
	for _, id := range r.fault.providers.neighbours.ids {
		all = append(all, kek(tenantPath(id))...)
	}
	return all
}

// checkProviders looks at what the other tenants have, at the KEKs, and at what became of the
// rotations that were due after moves.
func (c *clients) checkProviders(p *chaosProviders) {
	if p == nil {
		return
	}
	for i, id := range append(slices.Clone(p.neighbours.ids), p.bystander) {
		if value, _ := c.get(http.MethodGet, tenantPath(id, "secrets/own"))["data"].(map[string]any); value["v"] != id {
			c.report(lost, "the item of another tenant, %s, is %v", id, value)
		}
		if id == p.bystander {
			continue
		}
		got := c.a.ask(http.MethodPut, tenantPath(id, "decrypt"), map[string]any{"ciphertext": p.neighbours.ciphertexts[i]})
		if got.body.Data["plaintext"] != "aGVsbG8=" {
			c.report(lost, "a ciphertext of another tenant, %s, is answered %s", id, got)
		}
	}
	c.checkKEKs()
	if failed := c.get(http.MethodGet, "dek/status")["rotations_failed"]; number(failed) != 0 {
		c.report(altered, "%v rotations have failed", failed)
	}
}

// checkKEKs compares the KEKs in storage with those that the mount and its tenants have.
func (c *clients) checkKEKs() {
	base := fmt.Sprintf("sys/raw/logical/%v/", c.get(http.MethodGet, "sys/mounts/dek")["uuid"])
	var own, want []string
	for _, id := range c.list("dek/tenants") {
		if kek := c.get(http.MethodGet, tenantPath(id, "kek")); kek["provider"] != "" {
			want = append(want, fmt.Sprint(kek["kek_id"]))
		}
	}
	for _, shard := range c.list(base + "tenantkeks") {
		for _, name := range c.list(base + "tenantkeks/" + shard) {
			_, id, _ := strings.Cut(name, ".")
			own = append(own, id)
		}
	}
	slices.Sort(own)
	slices.Sort(want)
	if !slices.Equal(own, want) {
		c.report(altered, "the KEKs of tenants' own are %v, want %v", own, want)
	}
	if mounts := c.list(base + "kek/keys"); !slices.Equal(mounts, []string{fmt.Sprint(c.get(http.MethodGet, "dek/kek")["kek_id"])}) {
		c.report(altered, "the KEKs of the mount are %v", mounts)
	}
}
