// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// endLimit is how long a rotation may take to end after the last fault; one
// that takes longer is stuck.
const endLimit = 5 * time.Minute

// round is one rotation of a tenant that a fault strikes.
type round struct {
	plan  plan
	fault fault
	c     *clients
	key   string // the rotation's idempotency key
	id    string // the rotation
	// started has the rotation's ID as it was answered; empty if it was not.
	started chan string

	began, struck time.Time // just before the blow, just after
	recovery      time.Duration
	hit           bool
	cancelled     bool // a cancel was acknowledged
	resting       bool // a pause was acknowledged, and no resume since
	ended         map[string]any
	moving        int // the moves of KEKs that were unfinished once Vault had recovered
}

// errStuck reports a rotation that did not end, or a Vault that did not recover.
var errStuck = errors.New("stuck")

// run carries the round out, traffic going on, until the rotation has ended.
func (r *round) run(ctx context.Context) error {
	r.c.encrypts.Store(r.plan.encrypts)
	r.key = uuid.NewSHA1(uuid.NameSpaceOID, []byte(fmt.Sprint(r.c.tenant, r.plan.seed))).String()
	defer r.c.run(r.plan.traffic)()

	unfinished, err := r.arrange()
	if err != nil {
		return err
	}
	pass(r.plan.delay)
	if err := r.strike(ctx); err != nil {
		return err
	}
	later := r.later(ctx)
	defer func() { _ = later.Wait() }()
	// Asking again would wake the rotation, which is to go on by itself: only
	// the one whose request was not answered has to be found so.
	if r.id = <-r.started; r.id == "" {
		if r.id, err = r.start(); err != nil {
			return err
		}
	}
	seen := r.unfinished()
	if err := r.after(); err != nil {
		return err
	}
	if err := errors.Join(r.end(), later.Wait()); err != nil {
		return err
	}
	if again, err := r.start(); err != nil || again != r.id {
		r.c.report(altered, "the idempotency key of rotation %s got rotation %q back: %v", r.id, again, err)
	}
	r.hit = unfinished && r.time("started_at").Before(r.began) && (seen || r.time("completed_at").After(r.struck))
	return nil
}

// last adds items until a rotation lasts long enough, under the traffic, for a
// fault not to miss it: how many that takes is the machine's matter. It returns
// how long it lasts.
func (c *clients) last(t *testing.T, seed uint64, enough time.Duration) (lasts time.Duration) {
	t.Helper()
	const most = 10 * firstItems
	for {
		r := &round{c: c, key: uuid.NewString()}
		stop := c.run(seed)
		var err error
		if r.id, err = r.start(); err == nil {
			err = r.end()
		}
		stop()
		require.NoError(t, err)
		lasts = r.time("completed_at").Sub(r.time("started_at"))
		if lasts >= enough || c.items >= most {
			return lasts
		}
		more := float64(c.items) * (1.2*float64(enough)/float64(lasts) - 1)
		require.NoError(t, c.add(min(int(more), most-c.items)))
	}
}

func (r *round) String() string {
	text := fmt.Sprintf("%s: hit %v, recovered in %s, %v", r.plan, r.hit, r.recovery.Round(time.Millisecond), r.ended["status"])
	if lasted := r.time("completed_at").Sub(r.time("started_at")); lasted > 0 {
		text += fmt.Sprintf(" in %s", lasted.Round(time.Millisecond))
	}
	if r.fault.providers != nil {
		text += fmt.Sprintf(": %s, %d of them unfinished after the blow", r.plan.providers, r.moving)
	}
	return text
}

// arrange starts the rotation and waits for the moment of the blow; unfinished
// says whether the rotation was then. If the blow is to meet the start, it only
// sends the request: the answer is for later.
func (r *round) arrange() (unfinished bool, err error) {
	r.started = make(chan string, 1)
	if r.fault.atRenewal {
		if err := r.awaitRenewal(); err != nil {
			return false, err
		}
	}
	if r.plan.together {
		go func() {
			id, _ := r.start() // asked again afterwards, by the same key
			r.started <- id
		}()
		return true, nil
	}
	if r.id, err = r.start(); err != nil {
		return false, err
	}
	r.started <- r.id
	r.await()
	r.before()
	return r.unfinished(), nil
}

func (r *round) path(parts ...string) string {
	return r.c.path(append([]string{"dek/rotations", r.id}, parts...)...)
}

// start starts the rotation, or finds the one that the same key has started,
// and returns its ID.
func (r *round) start() (string, error) {
	reply := r.c.a.ask(http.MethodPut, r.c.path("dek/rotate"), map[string]any{
		"reason": "chaos", "idempotency_key": r.key,
	})
	if !reply.ok() {
		return "", fmt.Errorf("start a rotation: %s", reply)
	}
	id, _ := reply.body.Data["rotation_id"].(string)
	return id, nil
}

// look reads the rotation; nil if there is no answer.
func (r *round) look() map[string]any {
	reply := r.c.a.ask(http.MethodGet, r.path(), nil)
	if !reply.ok() {
		return nil
	}
	return reply.body.Data
}

func (r *round) unfinished() bool {
	status, _ := r.look()["status"].(string)
	return slices.Contains([]string{"in_progress", "paused", "rolling_back"}, status)
}

func (r *round) time(field string) time.Time {
	text, _ := r.ended[field].(string)
	at, _ := time.Parse(time.RFC3339, text)
	return at
}

// await waits for the moment of the blow, or for the end of the rotation.
func (r *round) await() {
	_ = until(endLimit, func() bool {
		now := r.look()
		percent, _ := now["percent"].(float64)
		return now != nil && (percent >= r.plan.percent || now["status"] != "in_progress")
	})
}

// strike deals the blow and waits until Vault has recovered.
func (r *round) strike(ctx context.Context) error {
	a := r.c.a
	moves, err := r.moveKEKs()
	if err != nil {
		return err
	}
	a.quiesced.Add(1)
	r.began = time.Now()
	r.trouble()
	if err := r.fault.strike(ctx, a); err != nil {
		return fmt.Errorf("deal the blow: %w", err)
	}
	r.struck = time.Now()
	if r.fault.restore != nil {
		pass(r.plan.outage)
		if err := r.fault.restore(ctx, a); err != nil {
			return fmt.Errorf("%w: Vault does not recover: %w", errStuck, err)
		}
	}
	if err := a.answers(r.c.path()); err != nil {
		return fmt.Errorf("%w: Vault does not recover: %w", errStuck, err)
	}
	r.recovery = time.Since(r.began)
	if err := r.endTrouble(ctx, moves); err != nil {
		return err
	}
	a.quiesced.Add(1)
	return nil
}

// later brings a killed node back in the background.
func (r *round) later(ctx context.Context) *errgroup.Group {
	var g errgroup.Group
	if r.fault.later != nil {
		g.Go(func() error {
			pass(r.plan.away)
			return r.fault.later(ctx, r.c.a)
		})
	}
	return &g
}

// end waits for the rotation's end and checks its accounts.
func (r *round) end() error {
	err := until(endLimit, func() bool {
		r.ended = r.look()
		return r.ended != nil && r.ended["completed_at"] != nil
	})
	if err != nil {
		return fmt.Errorf("%w: rotation %s is %v: %w", errStuck, r.id, r.ended["status"], err)
	}
	want := "completed"
	if r.cancelled {
		want = "rolled_back"
	}
	if r.ended["status"] != want {
		r.c.report(altered, "rotation %s is %v, want %s", r.id, r.ended["status"], want)
	}
	if failed := number(r.ended["items_failed"]); failed != 0 {
		r.c.report(lost, "rotation %s: %d items failed: %v", r.id, failed, r.ended["failures"])
	}
	if want != "completed" {
		return nil
	}
	to, done := fmt.Sprint(r.ended["items_to_rotate"]), fmt.Sprint(r.ended["items_rotated"])
	if to != done || number(r.ended["percent"]) != 100 {
		r.c.report(altered, "rotation %s: %s items to rotate, %s rotated, %v %%", r.id, to, done, r.ended["percent"])
	}
	return nil
}
