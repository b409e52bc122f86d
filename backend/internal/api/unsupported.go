// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// verbs are the operations of callers, in the words of the vault command, in the order
// in which a message names them.
var verbs = []struct {
	operation logical.Operation
	verb      string
}{
	{logical.ReadOperation, "read"},
	{logical.ListOperation, "list"},
	{logical.UpdateOperation, "write"},
	{logical.PatchOperation, "patch"},
	{logical.DeleteOperation, "delete"},
}

// UnsupportedError says which operations a path has, to a caller that asks for another:
// a list that is read, mostly. The path may be nil.
func UnsupportedError(p *framework.Path, asked logical.Operation) error {
	var has []string
	wanted := ""
	for _, v := range verbs {
		if v.operation == asked {
			wanted = v.verb
		}
		if p != nil && p.Operations[v.operation] != nil {
			has = append(has, v.verb)
		}
	}
	if wanted == "" || len(has) == 0 {
		return logical.ErrUnsupportedOperation // Vault's own, such as a rollback
	}
	message := fmt.Sprintf("this path has no operation %s, only %s", wanted, strings.Join(has, ", "))
	if asked == logical.ReadOperation && p.Operations[logical.ListOperation] != nil {
		message += ": it is a list (vault list, or the method LIST)"
	}
	return logical.CodedError(http.StatusMethodNotAllowed, message)
}
