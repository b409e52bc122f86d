// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"net/http"
)

// do asks for an action. It may be too late for it; false then.
func (r *round) do(action string) bool {
	reply := r.c.a.ask(http.MethodPut, r.path(action), nil)
	if !reply.ok() && reply.status != http.StatusConflict {
		r.c.report(altered, "%s of rotation %s was answered %s", action, r.id, reply)
	}
	return reply.ok()
}

// twice asks for an action and repeats it, which must change nothing.
func (r *round) twice(action string) bool {
	if !r.do(action) {
		return false
	}
	if !r.do(action) && r.unfinished() {
		r.c.report(altered, "a repeated %s of rotation %s was refused while it is unfinished", action, r.id)
	}
	return true
}

// before does what is to be done to the rotation before the blow.
func (r *round) before() {
	switch r.plan.control {
	case cancelFirst:
		r.cancelled = r.twice("cancel")
	case pauseFirst, pauseCancel:
		r.resting = r.twice("pause")
	case pauseAgain:
		if r.do("pause") && !r.twice("resume") {
			r.c.report(altered, "rotation %s was paused and does not resume", r.id)
		}
	}
}

// after does what is to be done once Vault has recovered.
func (r *round) after() error {
	if r.resting {
		if now := r.look(); now["status"] != "paused" {
			r.c.report(altered, "rotation %s was paused, and is %v after the fault", r.id, now["status"])
		}
	}
	switch r.plan.control {
	case pauseFirst:
		if r.resting && !r.twice("resume") {
			return fmt.Errorf("%w: rotation %s does not resume", errStuck, r.id)
		}
	case cancelLast, pauseCancel:
		r.cancelled = r.twice("cancel")
		if r.resting && !r.cancelled {
			return fmt.Errorf("%w: rotation %s was paused and cannot be cancelled", errStuck, r.id)
		}
	}
	return nil
}
