// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package item

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
)

var errRequestID = errors.New("request ID is malformed")

// requestID names the request that wrote an item. Vault's are UUIDs, followed by
// "#" and the number of an entry, and such a one is held in 17 to 21 bytes
// instead of 38 and more: every item has one, and each rotation writes it again.
type requestID string

// MarshalCBOR returns a byte string of the packed form, if that gives the same
// request ID again, and a text string else.
func (id requestID) MarshalCBOR() ([]byte, error) {
	if packed := id.pack(); packed != nil {
		return cbor.Marshal(packed)
	}
	if !utf8.ValidString(string(id)) {
		return nil, errRequestID // it would not decode, nor would its item
	}
	return cbor.Marshal(string(id))
}

// UnmarshalCBOR takes either form.
func (id *requestID) UnmarshalCBOR(b []byte) error {
	var either any
	if err := cbor.Unmarshal(b, &either); err != nil {
		return err
	}
	switch form := either.(type) {
	case string:
		*id = requestID(form)
		return nil
	case []byte:
		unpacked, ok := unpackRequestID(form)
		*id = unpacked
		if ok {
			return nil
		}
	}
	return errRequestID
}

// pack returns the UUID's 16 bytes and the number as a varint; nil if the request
// ID is not of that form, or is written in another way than unpack writes it.
func (id requestID) pack() []byte {
	name, number, _ := strings.Cut(string(id), "#")
	request, err := uuid.Parse(name)
	if err != nil {
		return nil
	}
	entry, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return nil
	}
	packed := binary.AppendUvarint(request[:], entry)
	if again, _ := unpackRequestID(packed); again != id {
		return nil
	}
	return packed
}

func unpackRequestID(packed []byte) (id requestID, ok bool) {
	const size = len(uuid.UUID{})
	if len(packed) <= size {
		return "", false
	}
	entry, n := binary.Uvarint(packed[size:])
	if n != len(packed)-size {
		return "", false
	}
	name := uuid.UUID(packed[:size]).String()
	return requestID(name + "#" + strconv.FormatUint(entry, 10)), true
}
