// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// side is one of several things that are compared: it measures for a round and
// returns a rate.
type side func(context.Context) (float64, error)

// alternate measures the sides in turns, A B A B, so that what disturbs the
// machine disturbs all of them. A first round warms up and does not count. It
// returns the values of each side, of fewer rounds if the time limit is near.
func alternate(ctx context.Context, rounds int, sides ...side) ([][]float64, error) {
	values := make([][]float64, len(sides))
	for round := range rounds + 1 {
		began := time.Now()
		for i, s := range sides {
			v, err := s(ctx)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				values[i] = append(values[i], v)
			}
		}
		if round > 0 && !fits(ctx, time.Since(began)) {
			break
		}
	}
	return values, nil
}

// fits reports whether another round, as long as the last, ends well before the
// time limit.
func fits(ctx context.Context, round time.Duration) bool {
	const reserve = 20 * time.Second
	deadline, limited := ctx.Deadline()
	return !limited || time.Until(deadline) > round+reserve
}

// closedLoop has so many connections send one request after the other for a
// while, and returns the requests a second. The operation is given a number
// that no other call gets.
func closedLoop(parent context.Context, connections int, d time.Duration, op func(context.Context, int) error) (float64, error) {
	var number atomic.Int64
	began := time.Now()
	end := began.Add(d)
	g, ctx := errgroup.WithContext(parent)
	for range connections {
		g.Go(func() error {
			for time.Now().Before(end) && ctx.Err() == nil {
				if err := op(ctx, int(number.Add(1))-1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	if err == nil {
		err = context.Cause(parent)
	}
	if err != nil {
		return 0, err
	}
	return float64(number.Load()) / time.Since(began).Seconds(), nil
}

// openLoop sends requests at a steady rate, whether or not earlier ones have
// been answered.
type openLoop struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	samples []float64 // milliseconds
	err     error
}

// startOpenLoop begins. A latency counts from the moment the request was due,
// so a stall shows in every request that it held up.
func startOpenLoop(ctx context.Context, perSecond int, op func(context.Context, int) error) *openLoop {
	sending, cancel := context.WithCancel(ctx)
	l := &openLoop{cancel: cancel}
	interval := time.Second / time.Duration(perSecond)
	l.wg.Go(func() {
		timer := time.NewTimer(0)
		defer timer.Stop()
		due := time.Now()
		for n := 0; ; n++ {
			select {
			case <-sending.Done():
				return
			case <-timer.C:
			}
			at := due
			l.wg.Go(func() { l.note(op(ctx, n), time.Since(at)) })
			due = due.Add(interval)
			timer.Reset(time.Until(due))
		}
	})
	return l
}

func (l *openLoop) note(err error, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples = append(l.samples, float64(took)/float64(time.Millisecond))
	if l.err == nil {
		l.err = err
	}
}

// stop ends the sending and waits for the last answers. It returns latencies in
// milliseconds.
func (l *openLoop) stop() ([]float64, error) {
	l.cancel()
	l.wg.Wait()
	return l.samples, l.err
}

// timed returns how long do took.
func timed(do func() error) (time.Duration, error) {
	began := time.Now()
	err := do()
	return time.Since(began), err
}
