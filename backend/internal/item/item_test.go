// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package item

import (
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"
)

func TestItemsComeBackAsTheyWere(t *testing.T) {
	created := time.Unix(1760000000, 123456789).UTC()
	const request = "0f8fad5b-d9cb-469f-a165-70867728950e"
	for _, id := range []string{
		"", request, request + "#", request + "#0", request + "#9999", request + "#00", request + "#-1", request + "#+1",
		request + "#4294967296", "0F8FAD5B-d9cb-469f-a165-70867728950e#1", "{" + request + "}#1", "urn:uuid:" + request + "#1",
		"0f8fad5bd9cb469fa16570867728950e#1", "req-1#0", "#", "\x00#1",
	} {
		for _, updated := range []time.Time{created, created.Add(1), created.Add(-time.Hour)} {
			want := &Item{Name: "n", Data: []byte("{}"), Revision: 1, CreatedAt: created, UpdatedAt: updated, RequestID: id}
			b, err := want.Encode()
			require.NoError(t, err)
			it, err := DecodeItem(b)
			require.NoError(t, err)
			require.Equal(t, want, it, "request ID %q", id)
		}
	}
}

func TestItemWithARequestIDThatIsNoText(t *testing.T) {
	_, err := (&Item{Name: "n", Data: []byte("{}"), RequestID: "\xff#1"}).Encode()
	require.ErrorContains(t, err, "request ID is malformed")
}

// Items written before UUIDs were packed have them as text, and both times.
func TestItemWithATextRequestID(t *testing.T) {
	const request = "0f8fad5b-d9cb-469f-a165-70867728950e#1"
	b, err := cbor.Marshal([]any{"n", []byte("{}"), nil, 1, 5, 5, request})
	require.NoError(t, err)
	it, err := DecodeItem(b)
	require.NoError(t, err)
	require.Equal(t, &Item{
		Name: "n", Data: []byte("{}"), Revision: 1, RequestID: request,
		CreatedAt: time.Unix(0, 5).UTC(), UpdatedAt: time.Unix(0, 5).UTC(),
	}, it)
}

func TestItemWithAMalformedRequestID(t *testing.T) {
	uuid := make([]byte, 16)
	for name, id := range map[string]any{
		"no bytes":                []byte{},
		"no number":               uuid,
		"a number that is cut":    append(uuid[:16:16], 0x80),
		"bytes behind the number": append(uuid[:16:16], 1, 1),
		"a number over 64 bits":   append(uuid[:16:16], 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		"another type":            7,
	} {
		b, err := cbor.Marshal([]any{"n", []byte("{}"), nil, 1, 5, 0, id})
		require.NoError(t, err)
		_, err = DecodeItem(b)
		require.ErrorContains(t, err, "request ID is malformed", name)
	}
}
