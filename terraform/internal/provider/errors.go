// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
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

// warned returns a context under which calls pass the engine's warnings on. The same one is
// shown once.
func warned(ctx context.Context, diags *diag.Diagnostics) context.Context {
	return client.WithWarnings(ctx, func(warning string) {
		diags.AddWarning("The engine answered with a warning", warning)
	})
}
