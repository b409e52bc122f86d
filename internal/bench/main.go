// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Command bench measures the engine on a real Vault with raft storage, beside
// what people do without it and beside the floor below which nothing can go.
// make bench runs it; docs/benchmarks.md says what the figures mean.
//
// Standard output has lines of name, value and unit, and nothing else; standard
// error tells how it goes on. It exits with 1 if a figure that was asked for
// could not be measured, and with 0 whether or not goals are met.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/fleet"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/floorplugin"
)

// stopWithin is how long after the time limit the process is gone at the
// latest, in case even stopping Vault hangs.
const stopWithin = 45 * time.Second

type options struct {
	only   *regexp.Regexp
	scale  float64
	limit  time.Duration
	svg    string
	plugin string
	list   bool
}

func main() {
	if len(os.Args) == 2 && (os.Args[1] == floorplugin.FloorArg || os.Args[1] == floorplugin.LoaderArg) {
		exit(floorplugin.Serve(os.Args[1]))
	}
	if len(os.Args) == 3 && os.Args[1] == fleet.Arg {
		exit(measureFleet(os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == fleet.PluginArg {
		exit(serveFleet(os.Args[2]))
	}
	opts, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		os.Exit(2)
	}
	if opts.list {
		list(os.Stdout)
		return
	}
	exit(run(opts))
}

// measureFleet is what fleetOfAMillion starts.
func measureFleet(tenants string) error {
	n, err := strconv.Atoi(tenants)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return fleet.Measure(ctx, n, os.Stdout)
}

// serveFleet is what Vault starts for pageOfAMillion.
func serveFleet(tenants string) error {
	n, err := strconv.Atoi(tenants)
	if err != nil {
		return err
	}
	return fleet.Serve(n)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parse(args []string, stderr io.Writer) (opts options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("run", "", "measure only figures whose name matches this `regexp`")
	flags.Float64Var(&opts.scale, "scale", 1, "shrink sizes and durations by this factor, for a quick look")
	flags.DurationVar(&opts.limit, "limit", 14*time.Minute+10*time.Second, "give up what is not measured by then")
	flags.StringVar(&opts.svg, "svg", "", "draw a plot into this `file`")
	flags.StringVar(&opts.plugin, "plugin", "", "measure this `binary` instead of bin/vault-plugin-dek")
	flags.BoolVar(&opts.list, "list", false, "list the figures and their goals")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if opts.only, err = regexp.Compile(*only); err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("takes no arguments, only flags: %q", flags.Args())
	}
	if err == nil && (opts.scale <= 0 || opts.scale > 1) {
		err = fmt.Errorf("-scale %g: must be above 0 and at most 1", opts.scale)
	}
	if err == nil && opts.svg != "" && opts.scale != 1 {
		err = errors.New("-svg: the plot's sizes are those of -scale 1")
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "bench:", err)
	}
	return opts, err
}

// run measures within the limit, whatever hangs.
func run(opts options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, opts.limit, fmt.Errorf("the limit of %s is over", opts.limit))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- measure(ctx, opts) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(stopWithin):
		return errors.New("did not stop in time")
	}
}

// measure brings the stack up, measures and takes it down.
func measure(ctx context.Context, opts options) (err error) {
	r := newReport(os.Stdout, os.Stderr, opts.only)
	chosen := r.chosen(sections)
	if len(chosen) == 0 {
		return fmt.Errorf("-run %s: no figure has such a name, see -list", opts.only)
	}
	r.notef("%s", machine())
	b, err := newBench(ctx, opts, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, s := range chosen {
		r.measure(ctx, b, s)
	}
	r.summary()
	if opts.svg != "" {
		if err := writePlot(opts.svg, r); err != nil {
			return err
		}
	}
	return r.failure()
}
