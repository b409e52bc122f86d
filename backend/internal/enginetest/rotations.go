// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// InRotation runs f while a rotation of a tenant with several pages is in its
// sweep, and returns an oracle of what was written.
func InRotation(t *testing.T, f func(w *Oracle, rotation string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := NewMount(t)
		Slowly(m)
		w := NewOracle(m)
		w.Create()
		w.Bulk(40, 3000)
		w.MidSweep(func() { f(w, w.Rotations[0]) })
		w.Engine.Cleanup(context.Background())
	})
}

// Action returns the path of an action (pause, resume, cancel, retry) on a rotation.
func Action(rotation, name string) string {
	return TenantPath("/dek/rotations/" + rotation + "/" + name)
}

// DestroyPath returns the path that destroys a version.
func DestroyPath(version any) string {
	return TenantPath(fmt.Sprintf("/dek/versions/%v/destroy", version))
}

// InFakeTime runs f on a mount with a tenant, whose rotations take no time.
func InFakeTime(t *testing.T, f func(m *Mount)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := NewMount(t)
		defer m.Close()
		m.DestroyAtOnce()
		m.Must(Update, TenantPath(""), nil)
		f(m)
	})
}

// DamagedRotation leaves version 1 with the one page that does not open.
func DamagedRotation(t *testing.T) *Oracle {
	t.Helper()
	w := Filled(t, 40)
	w.Damage()
	w.Rotate()
	Advance(time.Second)
	require.Equal(t, "failed", w.Status(w.Rotations[0])["status"])
	w.Damage()
	return w
}
