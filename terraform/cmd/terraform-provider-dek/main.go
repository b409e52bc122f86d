// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Command terraform-provider-dek is the provider that OpenTofu and Terraform start.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
	"github.com/vault-plugin-dek/vault-plugin-dek/terraform/internal/provider"
)

func main() {
	show := flag.Bool("version", false, "print the version and exit")
	debug := flag.Bool("debug", false, "wait for a debugger, and print how OpenTofu reaches this process")
	flag.Parse()
	if *show {
		fmt.Println(version.Line("terraform-provider-dek"))
		return
	}
	err := providerserver.Serve(context.Background(), provider.New, providerserver.ServeOpts{
		Address: provider.Address, Debug: *debug,
	})
	if err != nil {
		log.Fatal(err)
	}
}
