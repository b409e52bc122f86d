// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
)

// errInstalled ends the command that was asked to install itself.
var errInstalled = errors.New("installed")

// install puts the running program into a plugin directory, as
// vault-plugin-dek_<version>, and returns the file. An image of the program alone has no
// other command that could. A file of that name that is there is left as it is: Vault may
// have it registered. If it is another program, install fails.
func install(directory string) (string, error) {
	file := filepath.Join(directory, "vault-plugin-dek_"+version.Version())
	if _, err := os.Lstat(file); err == nil {
		return file, sameProgram(file)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	temp, err := os.CreateTemp(directory, ".vault-plugin-dek_*")
	if err != nil {
		return "", err
	}
	err = errors.Join(copyProgram(temp), temp.Chmod(0o755), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(temp.Name()))
	}
	return file, nil
}

func copyProgram(to io.Writer) error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.Open(path) //nolint:gosec // the running program
	if err != nil {
		return err
	}
	defer func() { _ = program.Close() }()
	_, err = io.Copy(to, program)
	return err
}

// sameProgram fails unless file has the content of the running program.
func sameProgram(file string) error {
	sum, err := version.FileSHA256(file)
	if err != nil {
		return err
	}
	if sum != version.SHA256() {
		return fmt.Errorf("%s is there and another program: remove it if no server has it registered", file)
	}
	return nil
}
