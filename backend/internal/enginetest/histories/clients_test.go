// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package histories

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// The tenants: one stays, one is deleted and created time and again.
const (
	lasting = enginetest.TenantID
	mortal  = "11111111-1111-4111-8111-111111111111"
)

var (
	tenants = []string{lasting, mortal}
	items   = []string{"a", "b", "c", "d", "e/f", "e/g"}
)

// client makes one request after the other.
type client struct {
	number int
	random *rand.Rand
	round  *round
	made   int
	gone   *request // a deletion whose answer it has seen
}

// request is one that may be sent again.
type request struct {
	id   string
	op   logical.Operation
	path string
	data map[string]any
	at   place
	in   input
}

// run makes so many requests.
func (c *client) run(requests int, done *sync.WaitGroup) {
	defer done.Done()
	for range requests {
		c.made++
		switch n := c.random.IntN(100); {
		case n < 65:
			c.useItems()
		case n < 80:
			c.changeTenant()
		case n < 85:
			c.encrypt()
		default:
			c.rotate()
		}
	}
}

func pick[E any](random *rand.Rand, of ...E) E { return of[random.IntN(len(of))] }

func (c *client) value() string {
	size := pick(c.random, 10, 10, 10, 100, 3000, 3000, 14_000, 30_000)
	return enginetest.Filler(fmt.Sprintf("%d/%d/%d", c.round.bursts, c.number, c.made), size)
}

func (c *client) useItems() {
	at := place{pick(c.random, lasting, lasting, mortal), pick(c.random, items...)}
	path := "tenants/" + at.tenant + "/secrets/" + at.item
	r := &request{op: logical.UpdateOperation, path: path, at: at}
	switch n := c.random.IntN(20); {
	case n < 6:
		r.in = input{act: put, value: c.value()}
		r.data = enginetest.Secret(r.in.value)
	case n < 8:
		r.in = input{act: create, value: c.value()}
		r.data = enginetest.Secret(r.in.value)
		r.data["cas"] = 0
	case n < 11:
		r.op, r.in = logical.DeleteOperation, input{act: remove}
	case n < 16:
		r.op, r.in = logical.ReadOperation, input{act: read}
	case n < 18:
		r.op, r.in, r.path, r.at.item = logical.ListOperation, input{act: list}, "tenants/"+at.tenant+"/secrets/", ""
	default:
		c.bulk(at.tenant)
		return
	}
	c.send(r)
}

func (c *client) changeTenant() {
	if c.gone != nil && c.random.IntN(3) == 0 {
		again := *c.gone
		again.in = input{act: repeats}
		c.once(&again)
		return
	}
	r := &request{op: logical.DeleteOperation, path: "tenants/" + mortal, at: place{tenant: mortal}}
	switch c.random.IntN(10) {
	case 0, 1:
		r.in, r.data = input{act: destroy}, map[string]any{"deletion_window": "0"}
	case 2, 3:
		r.in, r.data = input{act: deletes}, map[string]any{"deletion_window": "720h"}
	case 4, 5:
		r.op, r.path, r.in = logical.UpdateOperation, r.path+"/restore", input{act: restore}
	default:
		r.op, r.in = logical.UpdateOperation, input{act: makes}
	}
	c.send(r)
}

// send makes a request. Where it gets no answer, Vault or the client may send it again.
func (c *client) send(r *request) {
	r.id = c.round.cluster.serving().RequestID()
	out := c.once(r)
	for out.unknown && c.random.IntN(3) > 0 {
		if c.random.IntN(2) == 0 {
			r.id = c.round.cluster.serving().RequestID()
			r.in.again = false
		} else {
			r.in.again = true
		}
		out = c.once(r)
	}
	if served := !out.unknown && !out.noTenant && out.refused == 0; served && (r.in.act == destroy || r.in.act == deletes) {
		c.gone = r
	}
}

// once makes a request, and notes and returns what it was answered.
func (c *client) once(r *request) (out output) {
	m := c.round.cluster.serving()
	began := c.round.history.begin()
	resp, err := m.CallAs(r.id, r.op, r.path, r.data)
	c.round.history.end(began, c.number, r.at, r.in, func(item string) output {
		out = answered(r.in, item, resp, err)
		return out
	})
	return out
}

// answered is what an answer says of an item.
func answered(in input, item string, resp *logical.Response, err error) output {
	code := enginetest.Code(resp, err)
	switch {
	case code == http.StatusNotFound && strings.Contains(err.Error(), "tenant"):
		return output{noTenant: true}
	case code == http.StatusNotFound && in.act == read:
		return output{}
	case code >= 500 || code == http.StatusTooManyRequests:
		return output{unknown: true}
	case code != http.StatusOK:
		return output{refused: code}
	}
	switch in.act {
	case put, create:
		return output{revision: int(resp.Data["revision"].(uint64))}
	case read:
		return output{value: resp.Data["data"].(map[string]any)["value"].(string), revision: int(resp.Data["revision"].(uint64))}
	case destroy:
		if resp != nil { // by a clock that was set back meanwhile
			return output{value: "can be restored"}
		}
	case list:
		names, _ := resp.Data["keys"].([]string)
		if slices.Contains(names, item) {
			return output{value: "listed"}
		}
	}
	return output{}
}

// bulk writes several items in one request.
func (c *client) bulk(tenant string) {
	var body []any
	values := map[string]string{}
	for _, n := range c.random.Perm(len(items))[:1+c.random.IntN(len(items))] {
		values[items[n]] = c.value()
		body = append(body, map[string]any{"kind": "secrets", "name": items[n], "data": map[string]any{"value": values[items[n]]}})
	}
	m := c.round.cluster.serving()
	began := c.round.history.begin()
	resp, err := m.Call(logical.UpdateOperation, "tenants/"+tenant+"/items", map[string]any{"items": body})
	for n, b := range body {
		name := b.(map[string]any)["name"].(string)
		in := input{act: put, value: values[name]}
		c.round.history.end(began, c.number, place{tenant, name}, in, func(string) output {
			if err != nil {
				return answered(in, name, resp, err)
			}
			result := resp.Data["results"].([]map[string]any)[n]
			if result["error"] != nil {
				return output{unknown: true}
			}
			return output{revision: int(result["revision"].(uint64))}
		})
	}
}
