// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import "context"

type warningsKey struct{}

// WithWarnings returns a context under which a call passes the warnings of its answer to tell,
// one by one, before it returns. They are the engine's, such as "evidence pending", or Vault's
// own. Calls that are made at once call tell at once. Under other contexts warnings are dropped.
func WithWarnings(ctx context.Context, tell func(warning string)) context.Context {
	return context.WithValue(ctx, warningsKey{}, tell)
}

func tellWarnings(ctx context.Context, warnings []string) {
	if tell, ok := ctx.Value(warningsKey{}).(func(string)); ok {
		for _, w := range warnings {
			tell(w)
		}
	}
}
