// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package actor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a caller's identity says is kept up to a bound, and cut off between characters.
func TestActorsAreBounded(t *testing.T) {
	long := strings.Repeat("ü", 300)
	a := New(long, "x"+long, strings.Repeat("e", 513))
	require.Equal(t, Actor{ID: strings.Repeat("ü", 256), Name: "x" + strings.Repeat("ü", 255), Email: strings.Repeat("e", 512)}, a)
	require.Equal(t, Actor{ID: "a", Name: "b", Email: "c"}, New("a", "b", "c"))
}

func TestLatestRequestsAreKept(t *testing.T) {
	var kept []string
	for n := range 20 {
		next, isNew := NoteRequest(kept, RequestDigest(fmt.Sprint(n)))
		require.True(t, isNew)
		_, isNew = NoteRequest(next, RequestDigest(fmt.Sprint(n)))
		require.False(t, isNew)
		kept = next
	}
	require.Len(t, kept, keepRequests)
	require.Len(t, kept[0], 32)
	_, isNew := NoteRequest(kept, RequestDigest("3"))
	require.True(t, isNew, "it is older than those that are kept")
	same, isNew := NoteRequest(kept, RequestDigest(""))
	require.True(t, isNew, "no ID recognizes nothing")
	require.Equal(t, kept, same)
}
