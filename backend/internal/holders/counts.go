// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package holders

import (
	"errors"
	"sync/atomic"
)

// Counts counts what holders did since the engine started: reports that were taken, those
// that were refused since they cannot be true, and external keys that were destroyed since
// no holder needed them.
type Counts struct{ Reports, Refused, Destroyed int64 }

// counters are what [Counts] is made of.
type counters struct{ reports, refused, destroyed atomic.Int64 }

// Counts returns what holders did.
func (e *Engine) Counts() Counts {
	c := &e.counters
	return Counts{c.reports.Load(), c.refused.Load(), c.destroyed.Load()}
}

// reported counts a report by what came of it. Of one that failed for another reason
// nothing is known.
func (c *counters) reported(err error) {
	switch {
	case err == nil:
		c.reports.Add(1)
	case errors.Is(err, ErrReport):
		c.refused.Add(1)
	}
}
