// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Command dek-kms-pkcs11 serves the Kubernetes KMS API, version 2, on a Unix socket, with
// AES keys of a PKCS#11 token. See docs/providers/pkcs11.md.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"

	"github.com/vault-plugin-dek/vault-plugin-dek/cmd/dek-kms-pkcs11/internal/server"
	"github.com/vault-plugin-dek/vault-plugin-dek/cmd/dek-kms-pkcs11/internal/token"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
)

const (
	// maxConnections bounds the connections to the socket.
	maxConnections = 64
	// stopLimit is how long the requests in flight, and then the library, may take to end.
	stopLimit = 5 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, errVersion):
		fmt.Println(version.Line("dek-kms-pkcs11"))
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "dek-kms-pkcs11:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "dek-kms-pkcs11:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, or checks the token. Logs and the help text go to errOut.
func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	// From the start: a supervisor may send it early, and it must not kill.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	o, err := parseOptions(args, errOut)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(errOut, nil))
	t, err := open(o, log)
	if err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
		defer cancel()
		if err := t.Close(ending); err != nil {
			log.Warn("the library was not ended in order", "error", err)
		}
	}()
	go func() {
		for range hup {
			log.Info("SIGHUP: a PIN that the token has refused is tried once more")
			t.Forget()
		}
	}()
	if o.check {
		return check(ctx, t, o, out)
	}
	return serve(ctx, t, o, log)
}

// open loads the library. The token is not used yet: it may come later.
func open(o *options, log *slog.Logger) (*token.Token, error) {
	pin, err := pinSource(o)
	if err != nil {
		return nil, err
	}
	if err := trustedFile(o.module); err != nil {
		return nil, fmt.Errorf("-module: %w", err)
	}
	lib, err := token.Load(o.module)
	if err != nil {
		return nil, fmt.Errorf("-module: %w", err)
	}
	return token.New(lib, token.Config{
		TokenLabel: o.tokenLabel, TokenSerial: o.tokenSerial, KeyLabel: o.keyLabel, KeyID: o.keyID,
		Sessions: o.sessions, PIN: pin, Log: log,
		Hung: func() {
			log.Error("a call of the library does not return; the program ends, to be started anew", "after", token.HangLimit.String())
			os.Exit(1)
		},
	}), nil
}

// check encrypts and decrypts once.
func check(ctx context.Context, t *token.Token, o *options, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	plaintext := make([]byte, 32)
	_, _ = rand.Read(plaintext) // it never fails
	sealed, err := t.Encrypt(ctx, plaintext)
	if err != nil {
		return fmt.Errorf("-check: %w", err)
	}
	opened, err := t.Decrypt(ctx, sealed)
	if err != nil {
		return fmt.Errorf("-check: %w", err)
	}
	if !bytes.Equal(opened, plaintext) {
		return errors.New("-check: the token opened something else than what it encrypted")
	}
	_, err = fmt.Fprintln(out, sealed.KeyID)
	return err
}

// serve serves the socket until ctx ends.
func serve(ctx context.Context, t *token.Token, o *options, log *slog.Logger) error {
	l, err := listen(ctx, o.socket, o.socketGroup)
	if err != nil {
		return err
	}
	s := server.New(t, o.timeout, log)
	log.Info("serving", "version", version.Version(), "commit", version.Commit(), "socket", o.socket)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(netutil.LimitListener(l, maxConnections)) }()
	first, cancel := context.WithTimeout(ctx, o.timeout)
	if id, err := t.KeyID(first); err != nil {
		log.Warn("the key cannot be used yet", "error", err)
	} else {
		log.Info("the key can be used", "key_id", id)
	}
	cancel()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		log.Info("stopping")
		stopServer(s)
		return <-ended
	}
}

// stopServer lets the requests in flight end, but not for long.
func stopServer(s *grpc.Server) {
	limit := time.AfterFunc(stopLimit, s.Stop)
	defer limit.Stop()
	s.GracefulStop()
}
