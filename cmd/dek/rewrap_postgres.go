// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// postgresOptions are the flags of rewrap postgres.
type postgresOptions struct {
	dsn, table               string
	columns                  []string
	tenant, tenantColumn     string
	ad, associatedDataColumn string
	holder                   string
	noReport                 bool
	checkpoint               string
	batch                    int
	rate                     float64
	dryRun                   bool
	patience                 time.Duration
}

func (a *app) rewrapPostgresCommand() *cobra.Command {
	var o postgresOptions
	cmd := &cobra.Command{
		Use:   "postgres",
		Short: "Bring columns of a PostgreSQL table to the current version",
		Long: `Bring the ciphertexts of columns to the current version of their tenants' keys,
while others read and write the table. Rows are read by primary key, and a text
is replaced only if it is still the one that was read.

Without --dsn the environment says where the database is: PGHOST, PGDATABASE and
the rest, as for psql. A password is better there, or in ~/.pgpass, than in --dsn.

Texts that do not open are named by their primary keys and passed over, and the
command ends with 3. With --checkpoint a command that was stopped goes on where it
was. While Vault or the database restarts it waits, --patience long.

At the end the command reports as a holder of each tenant, once a count that began
after report/start has found nothing of another version. It is the table as a whole
that reports: name all its columns with ciphertexts.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return a.rewrapPostgres(cmd.Context(), &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dsn, "dsn", "", "the database: a URL, or key=value pairs")
	f.StringVar(&o.table, "table", "", "the table, with its schema or without")
	f.StringArrayVar(&o.columns, "column", nil, "a column with ciphertexts; may be repeated")
	f.StringVar(&o.tenant, "tenant", "", "the tenant of all rows")
	f.StringVar(&o.tenantColumn, "tenant-column", "", "the column with each row's tenant")
	f.StringVar(&o.ad, "associated-data", "", "what the texts were encrypted with")
	f.StringVar(&o.associatedDataColumn, "associated-data-column", "", "the column that has it, as text")
	f.StringVar(&o.holder, "holder", "", "the holder to report as at the end (default: the table's name, if the tenant has such a holder)")
	f.BoolVar(&o.noReport, "no-report", false, "report nothing")
	f.StringVar(&o.checkpoint, "checkpoint", "", "a file that keeps how far the command is")
	f.IntVar(&o.batch, "batch", client.DefaultBatch, "texts at a time")
	f.Float64Var(&o.rate, "rate", 0, "texts a second at most (default: no limit)")
	f.BoolVar(&o.dryRun, "dry-run", false, "count, and estimate how long it would take")
	f.DurationVar(&o.patience, "patience", patience, "how long to wait for Vault or the database to come back")
	return cmd
}

func (o *postgresOptions) check() error {
	switch {
	case o.table == "":
		return usage("--table is needed")
	case len(o.columns) == 0:
		return usage("--column is needed")
	case (o.tenant == "") == (o.tenantColumn == ""):
		return usage("one of --tenant and --tenant-column is needed")
	case o.ad != "" && o.associatedDataColumn != "":
		return usage("only one of --associated-data and --associated-data-column can be given")
	case o.holder != "" && o.noReport:
		return usage("only one of --holder and --no-report can be given")
	case o.batch < 1:
		return usage("--batch must be at least 1")
	case o.rate < 0:
		return usage("--rate must not be below 0")
	}
	return nil
}

// job names what a checkpoint is of. One of another database, or of texts that were opened
// with something else, counts as refused what this run has to look at.
func (o *postgresOptions) job(t *table) string {
	return fmt.Sprintf("%s%q in %s, tenant %q%q, associated data %q%q", t.name, o.columns, t.database,
		o.tenant, o.tenantColumn, o.ad, o.associatedDataColumn)
}

// postgresJob is one run of the command.
type postgresJob struct {
	a       *app
	o       *postgresOptions
	store   *postgresStore
	tenants *tenants
	keep    *checkpoint[client.Progress]
	total   client.Progress
}

func (a *app) rewrapPostgres(ctx context.Context, o *postgresOptions) error {
	collectSeldom()
	config, err := pgxpool.ParseConfig(o.dsn)
	if err != nil {
		return usage("--dsn: %s", err) // pgx leaves the password out
	}
	for name, value := range map[string]string{
		// Keys are kept as text: it must mean the same the next time.
		"DateStyle": "ISO", "TimeZone": "UTC", "IntervalStyle": "postgres", "extra_float_digits": "3", "bytea_output": "hex",
		// A policy that hides rows would leave them behind, and the report say that there are none.
		"row_security": "off",
		// A batch is a megabyte of parameters: to plan for each anew takes longer than the plan brings.
		"plan_cache_mode":  "force_generic_plan",
		"application_name": "dek rewrap",
	} {
		config.ConnConfig.RuntimeParams[name] = value
	}
	config.AfterConnect = encodeTextsAtOnce
	db, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer db.Close()
	t, err := describe(ctx, db, o)
	if err != nil {
		return err
	}
	all, err := a.newTenants(o.batch)
	if err != nil {
		return err
	}
	if o.tenant != "" {
		if _, err := all.of(o.tenant); err != nil {
			return usage("--tenant: %s", err)
		}
	}
	keep, err := openCheckpoint[client.Progress](o.checkpoint, o.job(t))
	if err != nil {
		return err
	}
	j := &postgresJob{
		a: a, o: o, tenants: all, keep: keep,
		store: &postgresStore{db: db, table: t, tenant: o.tenant, ad: o.ad},
	}
	if o.dryRun {
		err = j.estimate(ctx)
	} else {
		err = j.run(ctx)
	}
	return errors.Join(err, all.close())
}

// maxRounds is how often the table is swept at most: rotations that start
// meanwhile leave texts behind.
const maxRounds = 3

// countsFirst reports whether the rows are counted before the first sweep: for a bar, or to
// know whose holders report. It reads the whole table.
func (j *postgresJob) countsFirst() bool {
	return j.a.hasBar() || !j.o.noReport && j.o.tenant == ""
}

// run sweeps the table until a count says that nothing is left.
func (j *postgresJob) run(ctx context.Context) error {
	total, counted := int64(-1), map[string]*holdings{}
	if j.countsFirst() {
		var err error
		if total, _, counted, err = j.left(ctx); err != nil {
			return err
		}
	}
	for round := 1; ; round++ {
		refused, err := j.sweep(ctx, total)
		if err != nil {
			return err
		}
		scans, err := j.startScans(ctx, counted)
		if err != nil {
			return err
		}
		var left int64
		if _, left, counted, err = j.left(ctx); err != nil {
			return err
		}
		if left <= refused {
			if err := j.report(ctx, scans, counted); err != nil {
				return err
			}
			break
		}
		if round == maxRounds {
			return fmt.Errorf("%d texts are still not of the current version: was the key rotated, or do writers hold an old one? Run the command again", left)
		}
		j.keep.Progress.After = "" // from the beginning
	}
	if err := j.keep.remove(); err != nil {
		return err
	}
	return j.a.tellSummary(j.total, false)
}
