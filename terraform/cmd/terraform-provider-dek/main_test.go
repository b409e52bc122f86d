// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"testing"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

func TestVersionOfTheProgram(t *testing.T) { programtest.SaysVersion(t, "terraform-provider-dek") }
