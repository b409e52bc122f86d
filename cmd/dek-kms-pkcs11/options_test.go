// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var good = []string{
	"-socket", "/run/dek-kms/owner.sock", "-module", "/usr/lib/softhsm/libsofthsm2.so", "-token-label", "token",
	"-key-label", "dek", "-pin-file", "/etc/dek-kms/pin",
}

func TestOptions(t *testing.T) {
	o, err := parseOptions(good, io.Discard)
	require.NoError(t, err)
	require.Empty(t, o.keyID)
	o, err = parseOptions(append(good[2:], "-key-id", "00fF", "-check"), io.Discard)
	require.NoError(t, err, "-check needs no socket")
	require.Equal(t, []byte{0, 0xff}, o.keyID)
	for flags, says := range map[string]string{
		"-socket ":                                 "-socket",
		"-socket kms.sock":                         "-socket",
		"-socket /run/../etc/kms.sock":             "-socket",
		"-socket /run/" + strings.Repeat("x", 100): "-socket",
		"-module libsofthsm2.so":                   "-module",
		"-module ":                                 "-module",
		"-token-label ":                            "-token-serial",
		"-key-label ":                              "-key-label",
		"-key-label " + strings.Repeat("x", 129):   "-key-label",
		"-key-label \xff":                          "-key-label",
		"-key-id 0x01":                             "-key-id",
		"-key-id 1":                                "-key-id",
		"-key-id " + strings.Repeat("01", 65):      "-key-id",
		"-pin-file ":                               "-pin-fd",
		"-pin-fd 3":                                "one of them",
		"-pin-file pin":                            "-pin-file",
		"-sessions 0":                              "-sessions",
		"-sessions 65":                             "-sessions",
		"-timeout 99ms":                            "-timeout",
		"-timeout 61s":                             "-timeout",
		"-pin 1234":                                "-pin",
	} {
		name, value, _ := strings.Cut(flags, " ")
		_, err := parseOptions(append(good[:len(good):len(good)], name, value), io.Discard)
		require.ErrorIs(t, err, errUsage, flags)
		require.ErrorContains(t, err, says, flags)
	}
	_, err = parseOptions(append(good[:len(good):len(good)], "1234"), io.Discard)
	require.ErrorIs(t, err, errUsage)
	require.NotContains(t, err.Error(), "1234", "it may be a PIN")
	_, err = parseOptions([]string{"-version"}, io.Discard)
	require.ErrorIs(t, err, errVersion)
	help := new(bytes.Buffer)
	_, err = parseOptions([]string{"-h"}, help)
	require.ErrorIs(t, err, flag.ErrHelp)
	require.Contains(t, help.String(), "-pin-file")
}
