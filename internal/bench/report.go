// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/browser"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/postgres"
)

// report prints figures as they are measured and remembers them.
type report struct {
	out, log io.Writer
	only     *regexp.Regexp
	began    time.Time

	figures []figure // those asked for, in the order of the table
	values  map[string]float64
	leftOut map[string]string // by name: why
	failed  map[string]error
}

func newReport(out, log io.Writer, only *regexp.Regexp) *report {
	return &report{
		out: out, log: log, only: only, began: time.Now(),
		values: map[string]float64{}, leftOut: map[string]string{}, failed: map[string]error{},
	}
}

// chosen returns the sections that have a figure that was asked for.
func (r *report) chosen(all []section) (chosen []section) {
	for _, s := range all {
		var wanted []figure
		for _, f := range s.figures {
			if r.only.MatchString(f.name) {
				wanted = append(wanted, f)
			}
		}
		if len(wanted) > 0 {
			chosen = append(chosen, section{wanted, s.measure})
			r.figures = append(r.figures, wanted...)
		}
	}
	return chosen
}

// errNotThere says that what is to be measured does not exist in this build of
// the engine, which is no failure.
var errNotThere = errors.New("the engine does not have it")

// measure runs one section. What it did not come to has failed.
func (r *report) measure(ctx context.Context, b *bench, s section) {
	err := context.Cause(ctx)
	if err == nil {
		r.notef("measuring %s", s.figures[0].name)
		err = s.measure(ctx, b)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	for _, f := range s.figures {
		_, measured := r.values[f.name]
		switch {
		case measured:
		case errors.Is(err, errNotThere), errors.Is(err, postgres.ErrMissing), errors.Is(err, browser.ErrMissing):
			r.leftOut[f.name] = err.Error()
			r.notef("%s is left out: %v", f.name, err)
		case err == nil:
			r.failed[f.name] = errors.New("it was not measured")
		default:
			r.failed[f.name] = err
		}
		if failed := r.failed[f.name]; failed != nil {
			r.notef("%s failed: %v", f.name, failed)
		}
	}
}

// set prints a figure, if it was asked for.
func (r *report) set(name string, value float64) {
	for _, f := range r.figures {
		if f.name == name {
			r.values[name] = value
			_, _ = fmt.Fprintln(r.out, name, format(value), f.unit)
		}
	}
}

// notef tells how it goes on.
func (r *report) notef(layout string, args ...any) {
	at := time.Since(r.began).Seconds()
	_, _ = fmt.Fprintf(r.log, "bench %5.1f s: %s\n", at, fmt.Sprintf(layout, args...))
}

// summary compares with the goals.
func (r *report) summary() {
	for _, f := range r.figures {
		value, measured := r.values[f.name]
		if !measured || !f.goal.present {
			continue
		}
		verdict := "met"
		if !f.goal.met(value) {
			verdict = "missed"
		}
		_, _ = fmt.Fprintf(r.log, "  %-36s %10s  %-14s %s\n", f.name, format(value), f.goal, verdict)
	}
}

// failure names the figures that could not be measured.
func (r *report) failure() error {
	if len(r.failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d figures could not be measured", len(r.failed), len(r.figures))
}

// format gives a value four significant digits, and whole numbers from 1,000.
func format(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000 || a == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	default:
		decimals := 3 - int(math.Floor(math.Log10(a)))
		return strconv.FormatFloat(v, 'f', max(decimals, 0), 64)
	}
}
