// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/vault/api"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/evidencecmd"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
)

// What the command ends with.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitRefused = 3 // done, but something was refused
)

// errUsage is a command line that cannot be carried out.
var errUsage = errors.New("faulty usage")

// errRefused ends a command that did its work, but for what it has listed.
var errRefused = errors.New("some were refused")

// app is what all commands share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	mount string
	json  bool

	speaking    sync.Mutex   // held for a line, since several readers of an import may have one to write
	started     bool         // the command line was fine
	waitingSaid atomic.Int64 // when it was last said that the command waits, in ns
	// toStderr is for commands whose data go to standard output.
	toStderr bool
}

// run carries out a command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := a.root() //nolint:contextcheck // the commands take theirs from ExecuteContext
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	checkCompletion(root)
	root.SetArgs(longFlags(root, args))
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errRefused), errors.Is(err, evidencecmd.ErrUntrusted), errors.Is(err, evidencecmd.ErrRefused):
		a.say("dek: %s", err)
		return exitRefused
	case errors.Is(err, errUsage), errors.Is(err, evidencecmd.ErrUsage), !a.started:
		a.say("dek: %s", err)
		if !cmd.HasAvailableSubCommands() {
			a.say("Usage: %s", cmd.UseLine())
		}
		a.say("See %s --help.", cmd.CommandPath())
		return exitUsage
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		a.say("dek: %s", errInterrupted)
		return exitFailed
	default:
		a.say("dek: %s", err)
		return exitFailed
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "dek",
		Short: "Work with the DEK secrets engine of a Vault server",
		Long: `Work with the DEK secrets engine of a Vault server.

The server and the token are those of the vault command: VAULT_ADDR, VAULT_TOKEN
or ~/.vault-token, VAULT_NAMESPACE, VAULT_CACERT and the rest.

Exit codes: 0 done, 1 failed, 2 faulty usage, 3 done but something was refused.`,
		Version:       version.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		PersistentPreRun: func(*cobra.Command, []string) {
			a.started = true
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate(version.Line("dek") + "\n")
	flags := root.PersistentFlags()
	flags.StringVar(&a.mount, "mount", client.DefaultMount, "where the engine is mounted")
	flags.BoolVar(&a.json, "json", false, "write lines of JSON, for programs")
	root.AddCommand(a.statusCommand(), a.rotateCommand(), a.encryptCommand(), a.decryptCommand(), a.rewrapCommand(), a.importCommand())
	root.AddCommand(evidencecmd.Command(evidencecmd.Env{
		Client: vaultClient,
		Mount:  func() string { return a.mount },
		JSON:   func() bool { return a.json },
	}))
	return root
}

// checkCompletion has cobra's own completion command refuse what is no shell: as cobra makes
// it, without anything to run, it shows its help for any argument, and succeeds. The outputs
// of root must be set before, since the command keeps them.
func checkCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
}

// longFlags lets flags be written with one dash, as the vault command has them.
func longFlags(root *cobra.Command, args []string) []string {
	names := map[string]bool{"help": true, "version": true}
	var collect func(*cobra.Command)
	collect = func(c *cobra.Command) {
		for _, set := range []interface{ FlagUsages() string }{c.Flags(), c.PersistentFlags()} {
			for word := range strings.FieldsSeq(set.FlagUsages()) {
				if name, isFlag := strings.CutPrefix(word, "--"); isFlag {
					names[name] = true
				}
			}
		}
		for _, sub := range c.Commands() {
			collect(sub)
		}
	}
	collect(root)
	out := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") && len(name) > 1 && names[name] {
			arg = "-" + arg
		}
		out = append(out, arg)
	}
	return out
}

// vaultClient is a client of Vault as the environment sets it.
func vaultClient() (*api.Client, error) {
	vault, err := api.NewClient(nil)
	if err != nil {
		return nil, fmt.Errorf("reading the VAULT_ settings: %w", err)
	}
	if err := checkAddress("VAULT_ADDR", vault.Address()); err != nil {
		return nil, err
	}
	if vault.Token() == "" {
		vault.SetToken(tokenOfHelper())
	}
	return vault, nil
}

// checkAddress refuses an address that no request can be sent to. Later that would be one
// that does not answer, and be waited for.
func checkAddress(name, address string) error {
	u, err := url.Parse(address)
	if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" || err == nil && u.Scheme == "unix" {
		return nil
	}
	return usage("%s must begin with http:// or https://, and name a server", name)
}

// client is a client of the engine.
func (a *app) client(more ...client.Option) (*client.Client, error) {
	vault, err := vaultClient()
	if err != nil {
		return nil, err
	}
	c, err := client.New(vault, append(more, client.WithMount(a.mount))...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return c, nil
}

// tokenOfHelper is the token that vault login has left, empty if there is none.
func tokenOfHelper() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	token, err := os.ReadFile(filepath.Join(home, ".vault-token")) // #nosec G304 -- where the vault command keeps it
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(token))
}

// tenant is one tenant, by the ID that a person gave.
func (a *app) tenant(id string) (*client.Tenant, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	t, err := c.Tenant(strings.ToLower(id))
	if err != nil {
		return nil, fmt.Errorf("%w: TENANT: %w", errUsage, err)
	}
	return t, nil
}

// say writes a line for people.
func (a *app) say(format string, args ...any) {
	a.speaking.Lock()
	defer a.speaking.Unlock()
	_, _ = fmt.Fprintf(a.stderr, format+"\n", args...) // nowhere to tell that stderr is broken
}

// results is where results are written: standard output, unless data are.
func (a *app) results() io.Writer {
	if a.toStderr {
		return a.stderr
	}
	return a.stdout
}

// tell writes a result: value as a line of JSON, or the text.
func (a *app) tell(value any, format string, args ...any) error {
	a.speaking.Lock()
	defer a.speaking.Unlock()
	if a.json {
		return json.NewEncoder(a.results()).Encode(value)
	}
	if format == "" {
		return nil
	}
	_, err := fmt.Fprintf(a.results(), format+"\n", args...)
	return err
}

// isTerminal reports whether a person looks at w.
func isTerminal(w io.Writer) bool {
	f, isFile := w.(*os.File)
	return isFile && term.IsTerminal(int(f.Fd())) // #nosec G115 -- a file descriptor
}

// usage is an error of the command line.
func usage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUsage, fmt.Sprintf(format, args...))
}
