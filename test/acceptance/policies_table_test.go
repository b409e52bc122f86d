// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

// The roles of bootstrap/policies.
const (
	securityAdmin = "security_admin"
	superAdmin    = "super_admin"
	keyAdmin      = "key_admin"
	kekAdmin      = "kek_admin"
	keyDestroyer  = "key_destroyer"
	keyImporter   = "key_importer"
	application   = "application"
	auditor       = "auditor"

	// noTenant has the roles that are bound to a tenant, and none.
	noTenant = "no tenant"
)

var (
	allRoles = []string{securityAdmin, superAdmin, keyAdmin, kekAdmin, keyDestroyer, keyImporter, application, auditor}
	// boundRoles hold for the tenant of the claim tenant_id.
	boundRoles = []string{securityAdmin, keyImporter, application}
)

// permission says who may use an operation of a path. For securityAdmin,
// keyImporter and application it holds for their own tenant only.
type permission struct {
	path, operation string
	roles           []string
}

// permissions has every path of the contract with every operation. What is not
// here, nobody may.
var permissions = []permission{
	{"config", "read", []string{keyDestroyer, auditor}},
	{"config", "update", []string{keyDestroyer}},
	{"key/rotationSettings", "read", []string{superAdmin, keyAdmin, auditor}},
	{"key/rotationSettings", "update", []string{superAdmin, keyAdmin}},
	{"key/rotationSettings", "patch", []string{superAdmin, keyAdmin}},
	{"status", "read", []string{superAdmin, keyAdmin, auditor}},
	{"fleet", "read", []string{superAdmin, keyAdmin, auditor}},
	{"metrics", "read", []string{auditor}},
	{"rotations", "list", []string{superAdmin, auditor}},
	{"rotations", "update", []string{superAdmin}},
	{"tombstones", "list", []string{superAdmin, auditor}},
	{"tombstones/{tenant_id}", "read", []string{superAdmin, auditor}},

	{"kek", "read", []string{kekAdmin, auditor}},
	{"kek/rotate", "update", []string{kekAdmin}},
	{"tenants/{tenant_id}/kek", "read", []string{securityAdmin, kekAdmin, auditor}},
	{"tenants/{tenant_id}/kek/rotate", "update", []string{kekAdmin}},
	{"providers", "list", []string{superAdmin, kekAdmin, auditor}},
	{"providers/{provider}", "read", []string{superAdmin, kekAdmin, auditor}},
	{"providers/{provider}", "update", []string{kekAdmin}},
	{"providers/{provider}", "delete", []string{kekAdmin}},
	{"providers/{provider}/check", "update", []string{kekAdmin}},
	{"wrapping_key", "read", []string{keyImporter, kekAdmin, auditor, noTenant}}, // a public key, of no tenant
	{"wrapping_key/rotate", "update", []string{kekAdmin}},

	{"tenants", "list", []string{superAdmin, auditor}},
	{"tenants/{tenant_id}", "read", []string{superAdmin, auditor}},
	{"tenants/{tenant_id}", "update", []string{superAdmin}},
	{"tenants/{tenant_id}", "delete", []string{keyDestroyer}},
	{"tenants/{tenant_id}/restore", "update", []string{superAdmin}},

	{"tenants/{tenant_id}/dek", "read", []string{superAdmin, securityAdmin, auditor}},
	{"tenants/{tenant_id}/dek/current", "read", []string{application, auditor}},
	{"tenants/{tenant_id}/dek/config", "update", []string{keyDestroyer}},
	{"tenants/{tenant_id}/dek/rotate", "update", []string{superAdmin, securityAdmin}},
	{"tenants/{tenant_id}/dek/import", "update", []string{keyImporter}},
	{"tenants/{tenant_id}/dek/rotations", "list", []string{superAdmin, securityAdmin, auditor}},
	{"tenants/{tenant_id}/dek/rotations/{rotation_id}", "read", []string{superAdmin, securityAdmin, auditor}},
	{"tenants/{tenant_id}/dek/rotations/{rotation_id}/{action}", "update", []string{superAdmin, securityAdmin}},
	{"tenants/{tenant_id}/dek/versions/{version}/destroy", "update", []string{keyDestroyer}},
	{"tenants/{tenant_id}/holders", "list", []string{securityAdmin, auditor}},
	{"tenants/{tenant_id}/holders/{holder}", "read", []string{securityAdmin, auditor}},
	{"tenants/{tenant_id}/holders/{holder}", "update", []string{securityAdmin}},
	{"tenants/{tenant_id}/holders/{holder}", "delete", []string{keyDestroyer}},
	{"tenants/{tenant_id}/holders/{holder}/report", "update", []string{application}},
	{"tenants/{tenant_id}/holders/{holder}/report/start", "update", []string{application}},

	{"evidence/key", "read", []string{auditor}},
	{"evidence/checkpoint", "read", []string{auditor}},
	{"evidence/entries", "list", []string{auditor}},
	{"evidence/entries/{index}", "read", []string{auditor}},
	{"evidence/tlog/checkpoint", "read", []string{auditor}},
	{"evidence/tlog/tile/{tile}", "read", []string{auditor}},
	{"evidence/witnesses", "read", []string{kekAdmin, auditor}},
	{"evidence/witnesses", "update", []string{kekAdmin}},
	{"evidence/key/rotate", "update", []string{kekAdmin}},
	{"evidence/people/{person}", "read", []string{auditor}},
	{"evidence/people/{person}", "delete", []string{keyDestroyer}},
	{"evidence/check", "update", []string{auditor}},
	{"evidence/cosign", "update", []string{auditor}},
	{"tenants/{tenant_id}/evidence", "list", []string{securityAdmin, auditor}},
	{"tenants/{tenant_id}/evidence/{index}", "read", []string{securityAdmin, auditor}},

	{"tenants/{tenant_id}/{kind}", "list", []string{application}},
	{"tenants/{tenant_id}/{kind}/{name}", "read", []string{application}},
	{"tenants/{tenant_id}/{kind}/{name}", "update", []string{application}},
	{"tenants/{tenant_id}/{kind}/{name}", "patch", []string{application}},
	{"tenants/{tenant_id}/{kind}/{name}", "delete", []string{application}},
	{"tenants/{tenant_id}/items", "update", []string{application}},
	{"tenants/{tenant_id}/items/read", "update", []string{application}},
	{"tenants/{tenant_id}/encrypt", "update", []string{application}},
	{"tenants/{tenant_id}/decrypt", "update", []string{application}},
	{"tenants/{tenant_id}/rewrap", "update", []string{application}},
	{"tenants/{tenant_id}/datakey/plaintext", "update", []string{application}},
	{"tenants/{tenant_id}/datakey/wrapped", "update", []string{application}},

	{"data/{tenant_id}/{kind}/{name}", "read", []string{application}},
	{"data/{tenant_id}/{kind}/{name}", "update", []string{application}},
	{"data/{tenant_id}/{kind}/{name}", "patch", []string{application}},
	{"data/{tenant_id}/{kind}/{name}", "delete", []string{application}},
	{"metadata/{tenant_id}/{kind}", "list", []string{application}},
	{"metadata/{tenant_id}/{kind}/{name}", "list", []string{application}},
	{"metadata/{tenant_id}/{kind}/{name}", "read", []string{application}},
	{"metadata/{tenant_id}/{kind}/{name}", "update", []string{application}},
	{"metadata/{tenant_id}/{kind}/{name}", "patch", []string{application}},
	{"metadata/{tenant_id}/{kind}/{name}", "delete", []string{application}},
	{"subkeys/{tenant_id}/{kind}/{name}", "read", []string{application}},
	{"delete/{tenant_id}/{kind}/{name}", "update", []string{application}},
	{"undelete/{tenant_id}/{kind}/{name}", "update", []string{application}},
	{"destroy/{tenant_id}/{kind}/{name}", "update", []string{application}},
}
