// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// maxLine bounds a line of JSON.
const maxLine = 64 << 20

// maxBatchBytes is how much is read of lines before they are rewrapped.
const maxBatchBytes = 8 << 20

// jsonlOptions are the flags of rewrap jsonl.
type jsonlOptions struct {
	field                   string
	tenant, tenantField     string
	ad, associatedDataField string
	batch                   int
	rate                    float64
	dryRun                  bool
}

func (a *app) rewrapJSONLCommand() *cobra.Command {
	var o jsonlOptions
	cmd := &cobra.Command{
		Use:   "jsonl FIELD",
		Short: "Bring a field of each line of JSON to the current version",
		Long: `Read lines of JSON from standard input, and write them to standard output with
the ciphertext in FIELD brought to the current version of its tenant's key. All
else of a line stays as it is, byte for byte. A FIELD of an object in the line is
written with dots, as in card.number.

A line without the field, or with null, is passed on. So is one whose text does
not open, or the tenant in its --tenant-field is gone: standard error names it, and
the command ends with 3. While Vault restarts it waits, for 2 minutes at most.

With --dry-run all lines are passed on as they are, and the summary counts what would
be rewrapped.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (o.tenant == "") == (o.tenantField == "") {
				return usage("one of --tenant and --tenant-field is needed")
			}
			if o.batch < 1 {
				return usage("--batch must be at least 1")
			}
			if o.rate < 0 {
				return usage("--rate must not be below 0")
			}
			o.field = args[0]
			return a.rewrapJSONL(cmd.Context(), &o)
		},
	}
	cmd.Flags().StringVar(&o.tenant, "tenant", "", "the tenant's ID")
	cmd.Flags().StringVar(&o.tenantField, "tenant-field", "", "the field that has the tenant's ID")
	cmd.Flags().StringVar(&o.ad, "associated-data", "", "what the texts were encrypted with")
	cmd.Flags().StringVar(&o.associatedDataField, "associated-data-field", "", "the field that has it")
	cmd.Flags().IntVar(&o.batch, "batch", client.DefaultBatch, "lines at a time")
	cmd.Flags().Float64Var(&o.rate, "rate", 0, "lines a second at most (default: no limit)")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "look, and change nothing")
	return cmd
}

// line is a line of JSON on its way.
type line struct {
	number int
	raw    []byte // with its LF, if it has one
	at     span   // of the text
	tenant string
	text   client.Ciphertext // empty: there is none
}

// jsonl rewraps a stream of lines.
type jsonl struct {
	a       *app
	o       *jsonlOptions
	tenants *tenants
	p       client.Progress
}

func (a *app) rewrapJSONL(ctx context.Context, o *jsonlOptions) error {
	a.toStderr = true
	if o.tenant != "" {
		if _, err := a.tenant(o.tenant); err != nil {
			return err
		}
	}
	t, err := a.newTenants(o.batch)
	if err != nil {
		return err
	}
	j := &jsonl{a: a, o: o, tenants: t}
	if err := errors.Join(j.run(ctx), t.close()); err != nil {
		return err
	}
	return a.tellSummary(j.p, o.dryRun)
}

func (j *jsonl) run(ctx context.Context) error {
	in, out := bufio.NewReaderSize(contextReader{ctx, untilDone(ctx, j.a.stdin)}, 1<<20), bufio.NewWriterSize(j.a.stdout, 1<<20)
	limit := j.limiter()
	for before := 0; ; {
		lines, err := j.read(in)
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		if len(lines) == 0 {
			return out.Flush()
		}
		if j.o.rate > 0 && before > 0 {
			// What is done is not held back meanwhile.
			if err := errors.Join(out.Flush(), limit.WaitN(ctx, before)); err != nil {
				return err
			}
		}
		before = len(lines)
		if err := j.rewrap(ctx, lines); err != nil {
			return errors.Join(err, out.Flush())
		}
		for i := range lines {
			if _, err := out.Write(lines[i].raw); err != nil {
				return err
			}
		}
	}
}

// limiter lets a batch through at the rate: how many lines there were is paid before the
// next one.
func (j *jsonl) limiter() *rate.Limiter {
	limit := rate.NewLimiter(rate.Limit(j.o.rate), j.o.batch)
	limit.AllowN(time.Now(), j.o.batch) // it begins full
	return limit
}

// read reads a batch of lines, and finds their texts.
func (j *jsonl) read(in *bufio.Reader) ([]line, error) {
	var lines []line
	size := 0
	for len(lines) < j.o.batch && size < maxBatchBytes {
		raw, err := readLine(in)
		if errors.Is(err, io.EOF) && len(raw) == 0 {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		size += len(raw)
		j.p.Scanned++
		l := line{number: int(j.p.Scanned), raw: raw}
		if err := j.find(&l); err != nil {
			j.refuse(&l, err)
			l.text.Ciphertext = ""
		} else if l.text.Ciphertext == "" {
			j.p.Empty++
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// readLine reads up to an LF, which it keeps.
func readLine(in *bufio.Reader) ([]byte, error) {
	var out []byte
	for {
		part, err := in.ReadSlice('\n')
		out = append(out, part...)
		if len(out) > maxLine {
			return nil, fmt.Errorf("a line has over %d bytes", maxLine)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return out, err
		}
	}
}

// find finds a line's text, tenant and associated data.
func (j *jsonl) find(l *line) error {
	object, err := parseLine(l.raw)
	if err != nil || object == nil {
		return err
	}
	if l.at, l.text.Ciphertext, err = object.text(j.o.field); err != nil || l.text.Ciphertext == "" {
		return err
	}
	l.tenant = j.o.tenant
	if j.o.tenantField != "" {
		if _, l.tenant, err = object.text(j.o.tenantField); err != nil {
			return err
		}
	}
	ad := j.o.ad
	if j.o.associatedDataField != "" {
		if _, ad, err = object.text(j.o.associatedDataField); err != nil {
			return err
		}
	}
	l.text.AssociatedData = []byte(ad)
	return nil
}

// rewrap brings the texts of a batch to the current version, tenant by tenant.
func (j *jsonl) rewrap(ctx context.Context, lines []line) error {
	byTenant := map[string][]*line{}
	for i := range lines {
		if l := &lines[i]; l.text.Ciphertext != "" {
			byTenant[l.tenant] = append(byTenant[l.tenant], l)
		}
	}
	for id, theirs := range byTenant {
		aead, err := j.tenants.of(id)
		if err != nil {
			for _, l := range theirs {
				j.refuse(l, err)
			}
			continue
		}
		texts := make([]client.Ciphertext, len(theirs))
		for i, l := range theirs {
			texts[i] = l.text
		}
		var out []client.Rewrapped
		err = j.a.lasting(ctx, patience, mayPass, func() (err error) {
			out, err = aead.Rewrap(ctx, texts)
			return err
		})
		if j.o.tenantField != "" && (errors.Is(err, client.ErrNoTenant) || errors.Is(err, client.ErrProviderDenied)) {
			for _, l := range theirs {
				j.refuse(l, err) // the others' lines go on
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("tenant %s: %w", id, err)
		}
		for i, l := range theirs {
			j.put(l, out[i])
		}
	}
	return nil
}

func (j *jsonl) put(l *line, r client.Rewrapped) {
	switch {
	case r.Err != nil:
		j.refuse(l, r.Err)
	case r.Changed:
		j.p.Rewrapped++
		if j.o.dryRun {
			return
		}
		l.raw = l.at.replace(l.raw, r.Ciphertext)
	default:
		j.p.Current++
	}
}

func (j *jsonl) refuse(l *line, err error) {
	j.p.Refused++
	j.a.tellRefused(fmt.Sprintf("line %d", l.number), err)
}
