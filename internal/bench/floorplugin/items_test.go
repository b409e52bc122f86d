// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package floorplugin

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestItemTakesLittleMoreThanItsData(t *testing.T) {
	bytes, err := PageBytesPerItem(context.Background())
	require.NoError(t, err)
	require.Greater(t, bytes, float64(SecretBytes))
	require.Less(t, bytes, float64(2*SecretBytes))
	t.Logf("an item takes %.1f bytes of a page", bytes)
}
