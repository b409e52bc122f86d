// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"sync/atomic"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Counts counts rotations since the engine started.
type Counts struct{ Started, Completed, RolledBack, Failed int64 }

// counters are what [Counts] is made of.
type counters struct{ started, completed, rolledBack, failed atomic.Int64 }

// Counts returns how many rotations have started and ended.
func (e *Engine) Counts() Counts {
	c := &e.counters
	return Counts{c.started.Load(), c.completed.Load(), c.rolledBack.Load(), c.failed.Load()}
}

// ended counts a rotation that has ended in a phase.
func (c *counters) ended(how tenant.Phase) {
	switch how {
	case tenant.Completed:
		c.completed.Add(1)
	case tenant.RolledBack:
		c.rolledBack.Add(1)
	case tenant.Failed:
		c.failed.Add(1)
	}
}
