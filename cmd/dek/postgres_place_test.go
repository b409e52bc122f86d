// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// awkward are parts of keys that could be taken for what is between them.
var awkward = []string{
	"", "1", "a b", `"`, `\`, `","`, `"]`, `"],"column":"`, "],", "<a&b>", "ä\u2028", "\x00\n", "~\x7f", `{"row":["`, `"}`,
}

// A place is written as encoding/json writes it, and read as it was, whatever is in a key.
// Checkpoints have places.
func TestPlaces(t *testing.T) {
	for _, column := range awkward {
		for _, first := range awkward {
			for _, row := range [][]string{{first}, {first, "2"}, {"2", first, first}} {
				p := place{row, column}
				want, err := json.Marshal(p)
				require.NoError(t, err)
				require.Equal(t, string(want), p.String())
				got, err := parsePlace(p.String())
				require.NoError(t, err)
				require.Equal(t, p, got)
			}
		}
	}
	for _, faulty := range []string{"", "{", `{"row":["1"],"column":"c"`, `{"row":["1","column":"c"}`, `{"row":["1",],"column":"c"}`, `{"row":["1""2"],"column":"c"}`} {
		_, err := parsePlace(faulty)
		assert.Error(t, err, faulty)
	}
}

// Lists of texts are encoded as pgx encodes them.
func TestTextsCodec(t *testing.T) {
	types := pgtype.NewMap()
	own, has := types.TypeForOID(pgtype.TextArrayOID)
	require.True(t, has)
	codec := textsCodec{own.Codec}
	for _, texts := range [][]string{{"a"}, {"", "ä", "NULL", `{"\`}, awkward} {
		want, err := types.Encode(pgtype.TextArrayOID, pgtype.BinaryFormatCode, texts, []byte("before"))
		require.NoError(t, err)
		got, err := codec.PlanEncode(types, pgtype.TextArrayOID, pgtype.BinaryFormatCode, texts).Encode(texts, []byte("before"))
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	assert.NotEqual(t, textsPlan{}, codec.PlanEncode(types, pgtype.TextArrayOID, pgtype.TextFormatCode, []string{"a"}))
	assert.NotEqual(t, textsPlan{}, codec.PlanEncode(types, pgtype.TextArrayOID, pgtype.BinaryFormatCode, []*string{nil}))
}
