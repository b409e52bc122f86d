// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// encodeTextsAtOnce has a connection encode lists of texts with textsCodec.
func encodeTextsAtOnce(_ context.Context, conn *pgx.Conn) error {
	types := conn.TypeMap()
	if own, has := types.TypeForOID(pgtype.TextArrayOID); has {
		types.RegisterType(&pgtype.Type{Name: own.Name, OID: own.OID, Codec: textsCodec{own.Codec}})
	}
	return nil
}

// textsCodec encodes a []string as text[], into a buffer that it makes large enough first.
// pgx's own lets the buffer grow as it goes from text to text, and copies half a megabyte of
// a batch again and again.
type textsCodec struct{ pgtype.Codec }

func (c textsCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, is := value.([]string); is && format == pgtype.BinaryFormatCode {
		return textsPlan{}
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

type textsPlan struct{}

// Encode appends an array of one dimension: its header, then each text behind its length.
func (textsPlan) Encode(value any, buf []byte) ([]byte, error) {
	const header, length = 5 * 4, 4
	texts, _ := value.([]string)
	size := header
	for _, text := range texts {
		size += length + len(text)
	}
	buf = slices.Grow(buf, size)
	for _, n := range []int{1, 0, pgtype.TextOID, len(texts), 1} { // dimensions, NULLs, type, length, first index
		buf = binary.BigEndian.AppendUint32(buf, uint32(n)) // #nosec G115 -- as many as a batch has
	}
	for _, text := range texts {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(text))) // #nosec G115 -- PostgreSQL's texts are below 1 GiB
		buf = append(buf, text...)
	}
	return buf, nil
}
