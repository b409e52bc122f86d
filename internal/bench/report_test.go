// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFiguresHaveNamesOfTheirOwnAndUnits(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sections {
		require.NotNil(t, s.measure)
		for _, f := range s.figures {
			require.Regexp(t, `^[a-z0-9_]+$`, f.name)
			require.NotEmpty(t, f.unit, f.name)
			require.False(t, seen[f.name], "%s is there twice", f.name)
			seen[f.name] = true
		}
	}
}

func TestGoals(t *testing.T) {
	require.True(t, atLeast(0.8).met(0.8))
	require.False(t, atLeast(0.8).met(0.79))
	require.True(t, atMost(50).met(50))
	require.False(t, atMost(50).met(50.1))
	require.True(t, goal{}.met(0))
}

func TestFormat(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 123456.7: "123457", 999.94: "999.9", 12.345: "12.35", 0.81234: "0.8123", 0.001234: "0.001234",
	} {
		require.Equal(t, want, format(v))
	}
}

func TestReport(t *testing.T) {
	var out, log bytes.Buffer
	all := []section{
		{[]figure{{"a", "s", atMost(1)}, {"b", "s", goal{}}}, func(_ context.Context, b *bench) error {
			b.set("a", 2)
			return errors.New("then it broke")
		}},
		{[]figure{{"c", "ms", goal{}}}, func(context.Context, *bench) error { return errNotThere }},
		{[]figure{{"d", "ms", goal{}}}, func(context.Context, *bench) error { panic("nobody asked") }},
	}
	r := newReport(&out, &log, regexp.MustCompile("^[abc]$"))
	for _, s := range r.chosen(all) {
		r.measure(context.Background(), &bench{report: r}, s)
	}
	require.Equal(t, "a 2.000 s\n", out.String())
	require.EqualError(t, r.failure(), "1 of 3 figures could not be measured")
	require.Contains(t, log.String(), "b failed: then it broke")
	require.Contains(t, log.String(), "c is left out")
	log.Reset()
	r.summary()
	require.Equal(t, "a 2.000 at most 1 missed", strings.Join(strings.Fields(log.String()), " "))
}

func TestWhatDoesNotFitHasFailed(t *testing.T) {
	var out, log bytes.Buffer
	over := errors.New("the limit is over")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(over)
	r := newReport(&out, &log, regexp.MustCompile(""))
	s := section{[]figure{{"a", "s", goal{}}}, func(context.Context, *bench) error { panic("too late") }}
	for _, s := range r.chosen([]section{s}) {
		r.measure(ctx, &bench{report: r}, s)
	}
	require.ErrorIs(t, r.failed["a"], over)
	require.Empty(t, out.String())
}

func TestFlagsAreChecked(t *testing.T) {
	for _, args := range [][]string{{"-scale", "0"}, {"-scale", "2"}, {"-run", "("}, {"argument"}} {
		var log bytes.Buffer
		_, err := parse(args, &log)
		require.Error(t, err, args)
		require.NotEmpty(t, log.String(), args)
	}
}
