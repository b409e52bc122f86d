// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import "errors"

// StateError reports what the state of a tenant's rotation or key does not allow.
type StateError struct{ Message string }

func (e *StateError) Error() string { return e.Message }

// Unwrap returns [ErrState].
func (e *StateError) Unwrap() error { return ErrState }

// ErrState is what every [StateError] is.
var ErrState = errors.New("the rotation's state does not allow it")
