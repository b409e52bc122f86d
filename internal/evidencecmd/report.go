// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencecmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/history"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/report"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
)

// ErrNoEntry says that nothing can be reported about a tenant.
var ErrNoEntry = errors.New("the log has no entry about tenant")

// reportFlags are those of dek evidence report.
type reportFlags struct {
	trust
	from, to, tenant, format, output string
}

func (env Env) reportCommand() *cobra.Command {
	var flags reportFlags
	cmd := &cobra.Command{
		Use:   "report [DIR]",
		Short: "Report rotations and destroyed keys to auditors",
		Long: `Report what the log says: each tenant, its cryptoperiod, its rotations, what was left
on replaced keys and what was destroyed, by whom, with a certificate of erasure for a
tenant that was shredded. The log is verified first, and the report says the findings.
For a tenant that the log has no entry about there is no report, and it ends with 1.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return env.report(cmd, args, &flags) },
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&flags.from, "from", "", "first day, as 2026-01-31 or RFC 3339 (default: the beginning)")
	cmd.Flags().StringVar(&flags.to, "to", "", "last day, inclusive, or a time in RFC 3339 (default: now)")
	cmd.Flags().StringVar(&flags.tenant, "tenant", "", "one tenant only")
	cmd.Flags().StringVar(&flags.format, "format", "html", "html, csv or json")
	cmd.Flags().StringVarP(&flags.output, "output", "o", "", "file to write to (default: standard output)")
	return cmd
}

func (env Env) report(cmd *cobra.Command, args []string, flags *reportFlags) error {
	about, err := flags.about(env.Now())
	if err != nil {
		return err
	}
	write := map[string]func(*report.Report, io.Writer) error{
		"html": (*report.Report).WriteHTML, "csv": (*report.Report).WriteCSV, "json": (*report.Report).WriteJSON,
	}[flags.format]
	if write == nil {
		return fmt.Errorf("%w: --format is html, csv or json", ErrUsage)
	}
	source, result, err := env.verify(cmd.Context(), args, &flags.trust)
	if err != nil {
		return err
	}
	if result.OK() && about.TenantID != "" && !isAbout(result, about.TenantID) {
		return fmt.Errorf("%w %s", ErrNoEntry, about.TenantID) // an empty report would say that all is well with it
	}
	if !result.Has(verify.CodeRoot) && !result.Has(verify.CodeTile) && !result.Has(verify.CodeMissing) && result.Size > 0 {
		prover, err := verify.NewProver(cmd.Context(), source, result)
		if err != nil {
			return err
		}
		about.Proof = prover.Proof
	}
	r, err := report.New(result, about)
	if err != nil {
		return err
	}
	if err := writeTo(cmd.OutOrStdout(), flags.output, func(w io.Writer) error { return write(r, w) }); err != nil {
		return err
	}
	return flags.verdict(result, "the report has ")
}

// isAbout reports whether a log has an entry about a tenant.
func isAbout(result *verify.Result, tenantID string) bool {
	return slices.ContainsFunc(result.History.Tenants(), func(t *history.Tenant) bool { return t.ID == tenantID })
}

// about reads the flags that say what the report is about.
func (f *reportFlags) about(now time.Time) (report.Options, error) {
	from, to, err := f.period(now)
	options := report.Options{From: from, To: to, Now: now}
	if err != nil || f.tenant == "" {
		return options, err
	}
	id, err := uuid.Parse(f.tenant)
	if err != nil {
		return options, fmt.Errorf("%w: --tenant is not a tenant's ID, a UUID", ErrUsage)
	}
	options.TenantID = id.String() // there are several ways to spell it
	return options, nil
}

// period reads the flags. A day for --to is inclusive.
func (f *reportFlags) period(now time.Time) (from, to time.Time, err error) {
	from, to = time.Unix(0, 0), now
	if f.from != "" {
		if from, _, err = parseTime(f.from); err != nil {
			return from, to, err
		}
	}
	if f.to != "" {
		var day bool
		if to, day, err = parseTime(f.to); err != nil {
			return from, to, err
		}
		if day {
			to = to.AddDate(0, 0, 1)
		}
	}
	if !from.Before(to) {
		return from, to, fmt.Errorf("%w: --from is not before --to", ErrUsage)
	}
	return from, to, nil
}

func parseTime(text string) (at time.Time, day bool, err error) {
	if at, err = time.Parse(time.DateOnly, text); err == nil {
		return at, true, nil
	}
	if at, err = time.Parse(time.RFC3339, strings.ToUpper(text)); err != nil {
		return at, false, fmt.Errorf("%w: %q is neither a day, as 2026-01-31, nor a time in RFC 3339", ErrUsage, text)
	}
	return at, false, nil
}

// writeTo writes to a file, or to standard output if it has no name.
func writeTo(stdout io.Writer, path string, write func(io.Writer) error) error {
	if path == "" {
		return write(stdout)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // the caller names it
	if err != nil {
		return err
	}
	if err := write(file); err != nil {
		_ = file.Close() // the first error says why
		return err
	}
	return file.Close()
}
