// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vault-plugin-dek/vault-plugin-dek/cmd/dek-kms-pkcs11/internal/token"
)

// errVersion means that the version is asked for, and nothing else.
var errVersion = errors.New("the version is asked for")

// errUsage means that the command line is at fault.
var errUsage = errors.New("invalid usage")

const (
	maxSessions   = 64
	maxSocketPath = 103 // what every system takes
)

// options is the command line. A PIN is never on it: others can read it there.
type options struct {
	socket, socketGroup     string
	module                  string
	tokenLabel, tokenSerial string
	keyLabel, keyIDHex      string
	keyID                   []byte
	pinFile                 string
	pinFD                   int
	sessions                int
	timeout                 time.Duration
	check, version          bool
}

func (o *options) flags(out io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("dek-kms-pkcs11", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.StringVar(&o.socket, "socket", "", "`path` of the Unix socket to serve, in a directory that only this user or root can write to")
	fs.StringVar(&o.socketGroup, "socket-group", "", "`group` that may connect, beside this user; the socket's mode is 0660 then, otherwise 0600")
	fs.StringVar(&o.module, "module", "", "`path` of the PKCS#11 library")
	fs.StringVar(&o.tokenLabel, "token-label", "", "`label` of the token")
	fs.StringVar(&o.tokenSerial, "token-serial", "", "`serial number` of the token, instead of its label or beside it")
	fs.StringVar(&o.keyLabel, "key-label", "", "`label` (CKA_LABEL) of the AES keys on the token")
	fs.StringVar(&o.keyIDHex, "key-id", "", "`ID` (CKA_ID, in hexadecimal) of the key that encrypts; empty: the highest ID of the label")
	fs.StringVar(&o.pinFile, "pin-file", "", "`file` with the user's PIN, read at each login")
	fs.IntVar(&o.pinFD, "pin-fd", -1, "`number` of an open file descriptor that the PIN is read from, once")
	fs.IntVar(&o.sessions, "sessions", 4, "how many calls are made to the token at a time; one session more is open")
	fs.DurationVar(&o.timeout, "timeout", 5*time.Second, "how long a request may take")
	fs.BoolVar(&o.check, "check", false, "encrypt and decrypt once, say which key did it, and end: nothing is served")
	fs.BoolVar(&o.version, "version", false, "print version and commit, and exit")
	return fs
}

// parseOptions reads the command line. Its error wraps errUsage, or is flag.ErrHelp or
// errVersion.
func parseOptions(args []string, out io.Writer) (*options, error) {
	o := &options{}
	fs := o.flags(out)
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	case err == nil && o.version:
		return nil, errVersion
	case err == nil && fs.NArg() > 0:
		err = errors.New("there may be flags only")
	}
	if err == nil {
		err = o.validate()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return o, nil
}

func (o *options) validate() error {
	switch {
	case !o.check && (!cleanPath(o.socket) || len(o.socket) > maxSocketPath):
		return fmt.Errorf("-socket must be an absolute path of at most %d bytes", maxSocketPath)
	case !cleanPath(o.module):
		return errors.New("-module must be the absolute path of a PKCS#11 library")
	case o.tokenLabel == "" && o.tokenSerial == "":
		return errors.New("-token-label or -token-serial must name the token")
	case (o.pinFile == "") == (o.pinFD < 0):
		return errors.New("-pin-file or -pin-fd must say where the PIN is, one of them")
	case o.pinFile != "" && !cleanPath(o.pinFile):
		return errors.New("-pin-file must be an absolute path")
	}
	return errors.Join(o.validateKey(), o.validateBounds())
}

func (o *options) validateBounds() error {
	switch {
	case o.sessions < 1 || o.sessions > maxSessions:
		return fmt.Errorf("-sessions must be from 1 to %d", maxSessions)
	case o.timeout < 100*time.Millisecond || o.timeout > time.Minute:
		return errors.New("-timeout must be from 100ms to 1m")
	}
	return nil
}

func (o *options) validateKey() (err error) {
	if o.keyLabel == "" || len(o.keyLabel) > token.MaxLabel || !utf8.ValidString(o.keyLabel) {
		return fmt.Errorf("-key-label must have 1 to %d bytes of UTF-8", token.MaxLabel)
	}
	o.keyID, err = hex.DecodeString(o.keyIDHex)
	if err != nil || len(o.keyID) > token.MaxID {
		return fmt.Errorf("-key-id must be hexadecimal, of at most %d bytes", token.MaxID)
	}
	return nil
}

// cleanPath reports whether a path is absolute, and names what it says.
func cleanPath(path string) bool {
	return filepath.IsAbs(path) && filepath.Clean(path) == path && !strings.Contains(path, "\x00")
}
