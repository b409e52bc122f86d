// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package version

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"sync"
)

// SHA256 returns the SHA-256 of the running program's file, in hexadecimal, as Vault's
// plugin catalog has it; "unknown" if the file cannot be read. The file is read once.
var SHA256 = sync.OnceValue(func() string {
	path, err := os.Executable()
	if err != nil {
		return unknown
	}
	sum, err := FileSHA256(path)
	if err != nil {
		return unknown
	}
	return sum
})

// FileSHA256 returns the SHA-256 of a file, in hexadecimal.
func FileSHA256(path string) (string, error) {
	file, err := os.Open(path) //nolint:gosec // the caller names it
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
