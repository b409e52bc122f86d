// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// maxPIN bounds a PIN. Tokens have smaller bounds of their own.
const maxPIN = 256

// pinSource returns what reads the PIN for each login: from the file, so that a changed one
// counts, or once, from the file descriptor.
func pinSource(o *options) (func() ([]byte, error), error) {
	if o.pinFile != "" {
		read := func() ([]byte, error) { return pinFromFile(o.pinFile) }
		pin, err := read()
		clear(pin)
		return read, err
	}
	file := os.NewFile(uintptr(o.pinFD), "-pin-fd") // #nosec G115 -- checked not to be negative
	if file == nil {
		return nil, errors.New("-pin-fd is not an open file descriptor")
	}
	defer func() { _ = file.Close() }()
	pin, err := readPIN(file, "-pin-fd")
	return func() ([]byte, error) { return slices.Clone(pin), nil }, err
}

func pinFromFile(path string) ([]byte, error) {
	if err := trustedPath(path); err != nil {
		return nil, fmt.Errorf("-pin-file: %w", err)
	}
	file, err := os.Open(path) // #nosec G304 G703 -- the operator names the file
	if err != nil {
		return nil, fmt.Errorf("-pin-file: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("-pin-file: %w", err)
	}
	if err := trustedRegular(path, info); err != nil {
		return nil, fmt.Errorf("-pin-file: %w", err)
	}
	if info.Mode()&0o007 != 0 {
		return nil, fmt.Errorf("-pin-file: others can read %s: its mode must be 0600, 0400 or 0440", path)
	}
	return readPIN(file, "-pin-file")
}

// readPIN reads a PIN, without the end of its line.
func readPIN(from io.Reader, flag string) ([]byte, error) {
	pin, err := io.ReadAll(io.LimitReader(from, maxPIN+3))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", flag, err)
	}
	pin = bytes.TrimSuffix(bytes.TrimSuffix(pin, []byte("\n")), []byte("\r"))
	if len(pin) == 0 || len(pin) > maxPIN || bytes.ContainsAny(pin, "\x00\r\n") {
		clear(pin)
		return nil, fmt.Errorf("%s must have one line with the PIN, of at most %d bytes", flag, maxPIN)
	}
	return pin, nil
}
