// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"errors"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// failed adds an error of the engine's, with what to do about it.
func failed(diags *diag.Diagnostics, summary string, err error) {
	text := err.Error()
	switch {
	case errors.Is(err, client.ErrForbidden):
		text += "\n\nThe policies of the token do not allow it. docs/terraform.md of vault-plugin-dek says which role may do what."
	case client.OutcomeUnknown(err):
		text += "\n\nIt may have taken effect all the same. The next plan reads what is there."
	}
	diags.AddError(summary, text)
}
