// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/client/clienttest"
)

const tenantID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"

// vaultForExample is api.NewClient(nil) in a program; here the engine is in
// memory.
func vaultForExample() (*api.Client, *clienttest.Engine) {
	engine := clienttest.New()
	engine.CreateTenant(tenantID)
	vault, err := engine.Vault()
	if err != nil {
		log.Fatal(err)
	}
	return vault, engine
}

func Example() {
	vault, _ := vaultForExample() // in a program: api.NewClient(nil)
	dek, err := client.New(vault)
	if err != nil {
		log.Fatal(err)
	}
	tenant, err := dek.Tenant(tenantID)
	if err != nil {
		log.Fatal(err)
	}
	aead := tenant.AEAD() // one for each tenant, kept while the program works for it
	defer func() { _ = aead.Close() }()

	text, err := aead.Encrypt([]byte("4111 1111 1111 1111"), []byte("cards/7"))
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := aead.Decrypt(text, []byte("cards/7"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text[:10]), string(plaintext))
	// Output: dek:v1:e1. 4111 1111 1111 1111
}

func ExampleTenant_EncryptStream() {
	vault, _ := vaultForExample()
	dek, err := client.New(vault)
	if err != nil {
		log.Fatal(err)
	}
	tenant, err := dek.Tenant(tenantID)
	if err != nil {
		log.Fatal(err)
	}
	var file bytes.Buffer
	w, err := tenant.EncryptStream(context.Background(), &file, nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(w, strings.NewReader("a large file")); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil { // only now it is whole
		log.Fatal(err)
	}
	r, err := tenant.DecryptStream(context.Background(), &file, nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(os.Stdout, r); err != nil { // no error: nothing is missing
		log.Fatal(err)
	}
	// Output: a large file
}

func ExampleAEAD_Rewrap() {
	vault, engine := vaultForExample()
	dek, err := client.New(vault)
	if err != nil {
		log.Fatal(err)
	}
	tenant, err := dek.Tenant(tenantID)
	if err != nil {
		log.Fatal(err)
	}
	aead := tenant.AEAD()
	defer func() { _ = aead.Close() }()
	old, err := aead.Encrypt([]byte("text"), nil)
	if err != nil {
		log.Fatal(err)
	}
	engine.Rotate(tenantID)

	rewrapped, err := aead.Rewrap(context.Background(), []client.Ciphertext{{Ciphertext: string(old)}})
	if err != nil {
		log.Fatal(err)
	}
	version, err := client.VersionOf(rewrapped[0].Ciphertext)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(rewrapped[0].Changed, version)
	// Output: true 2
}
