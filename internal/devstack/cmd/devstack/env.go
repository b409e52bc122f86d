// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// otherTenantID is a tenant that the security admin of another one belongs to.
const otherTenantID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

const day = 24 * time.Hour

// person is someone with a JWT in the environment file.
type person struct {
	variable string
	name     string
	tenantID string
	roles    []string
	age      time.Duration
}

var people = []person{
	{variable: "DEK_JWT_SUPER_ADMIN", name: "Super Admin", roles: []string{"super_admin"}},
	{variable: "DEK_JWT_SECURITY_ADMIN", name: "Security Admin", tenantID: tenantID, roles: []string{"security_admin"}},
	{variable: "DEK_JWT_OTHER_TENANT", name: "Other Admin", tenantID: otherTenantID, roles: []string{"security_admin"}},
	{variable: "DEK_JWT_APPLICATION", name: "Example Application", tenantID: tenantID, roles: []string{"application"}},
	{variable: "DEK_JWT_AUDITOR", name: "Auditor", roles: []string{"auditor"}},
	{variable: "DEK_JWT_KEY_DESTROYER", name: "Key Destroyer", roles: []string{"key_destroyer"}},
	{variable: "DEK_JWT_KEK_ADMIN", name: "KEK Admin", roles: []string{"kek_admin"}},
	{variable: "DEK_JWT_KEY_IMPORTER", name: "Key Importer", tenantID: tenantID, roles: []string{"key_importer"}},
	{variable: "DEK_JWT_KEY_ADMIN", name: "Key Admin", roles: []string{"key_admin"}},
	{variable: "DEK_JWT_NO_ROLE", name: "No Role", tenantID: tenantID},
	{variable: "DEK_JWT_EXPIRED", name: "Former Admin", roles: []string{"super_admin"}, age: day + time.Hour},
}

// environment is the content of .dev/env: a shell's export lines.
func environment(stack *devstack.Stack) ([]byte, error) {
	var env bytes.Buffer
	set := func(name, value string) {
		fmt.Fprintf(&env, "export %s=%s\n", name, quote(value))
	}
	set("VAULT_ADDR", stack.VaultAddr())
	set("VAULT_TOKEN", stack.RootToken())
	set("DEK_PROXY_ADDR", stack.ProxyURL())
	set("DEK_TENANT_ID", tenantID)
	set("NAME_PREFIX", "") // for bootstrap.sh, which a developer runs for another plugin
	root, err := devstack.RepoRoot()
	if err != nil {
		return nil, err
	}
	// One shell word like the others, of which a part is what PATH was before.
	fmt.Fprintf(&env, "export PATH=%s\"$PATH\"''\n", quote(filepath.Join(root, "bin")+":"))
	now := time.Now()
	for i, p := range people {
		token, err := stack.MintJWT(devstack.Claims{
			Subject:  p.subject(),
			Name:     p.name,
			Email:    strings.ReplaceAll(strings.ToLower(p.name), " ", ".") + "@example.com",
			TenantID: p.tenantID,
			Roles:    p.roles,
			IssuedAt: now.Add(-p.age - time.Duration(i)*time.Second), // one for each
			Lifetime: day,
		})
		if err != nil {
			return nil, err
		}
		set(p.variable, token)
	}
	return env.Bytes(), nil
}

// subject stays the same over restarts, so that Vault knows the person again.
func (p person) subject() string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://devstack.invalid/"+p.variable)).String()
}

// quote makes one shell word of a value, whatever it holds.
func quote(value string) string {
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}
