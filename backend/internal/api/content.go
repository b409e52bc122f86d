// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package api

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
)

// ParseMetadata returns an object of strings, nil for null. It refuses any other value,
// by the name of the field.
func ParseMetadata(field string, value any) (map[string]string, error) {
	if value == nil {
		return nil, nil
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, Invalid("%s must be an object of strings", field)
	}
	metadata := make(map[string]string, len(object))
	for k, v := range object {
		text, ok := v.(string)
		if !ok {
			return nil, Invalid("%s must be an object of strings", field)
		}
		metadata[k] = text
	}
	return metadata, nil
}

// MergeMetadata applies a merge patch to the metadata of an item, which it leaves as they
// are. It refuses a patch that leaves anything but strings.
func MergeMetadata(field string, cur map[string]string, patch map[string]any) (map[string]string, error) {
	target := make(map[string]any, len(cur))
	for k, v := range cur {
		target[k] = v
	}
	return ParseMetadata(field, item.Merge(target, patch))
}

// MergeData applies a merge patch to the encoded secret of an item. An item without data
// has none to keep.
func MergeData(cur []byte, patch map[string]any) ([]byte, error) {
	data, err := DecodeData(cur)
	if err != nil {
		return nil, err
	}
	return EncodeData(item.Merge(data, patch))
}

// DecodeData is the reverse of [EncodeData], and returns nil for an item without data. It
// fails with [page.ErrDamaged].
func DecodeData(encoded []byte) (data map[string]any, err error) {
	if len(encoded) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(encoded, &data); err != nil {
		return nil, page.ErrDamaged // the parser's text may quote the data
	}
	return data, nil
}

// EncodeData encodes the secret of an item. It refuses numbers that Vault may
// already have changed on their way here. No message names what is in it.
func EncodeData(data map[string]any) ([]byte, error) {
	if err := exactNumbers(data); err != nil {
		return nil, err
	}
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false) // else <, > and & would count as six bytes each
	if err := encoder.Encode(data); err != nil {
		return nil, Invalid("data must be an object of JSON values")
	}
	return bytes.TrimSuffix(encoded.Bytes(), []byte("\n")), nil
}

// Vault passes numbers to plugins as float64. What is wrong with those that it may
// have changed.
var (
	errLargeNumber = Invalid("data must not have a number of magnitude 2^53 or more, which would arrive changed: send it as a string")
	errFraction    = Invalid("data must not have a fraction of more than 15 significant digits, which would arrive changed: send it as a string")
)

// exactNumbers fails for a value with a number that may have arrived changed.
func exactNumbers(value any) error {
	switch v := value.(type) {
	case map[string]any:
		for _, member := range v {
			if err := exactNumbers(member); err != nil {
				return err
			}
		}
	case []any:
		for _, element := range v {
			if err := exactNumbers(element); err != nil {
				return err
			}
		}
	case float64:
		return exactFloat(v)
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return errLargeNumber
		}
		return exactFloat(f)
	case int:
		return exactFloat(float64(v))
	case int64:
		return exactFloat(float64(v))
	}
	return nil
}

// exactFloat fails for a float64 that may not be the number that was sent. Integers
// below 2^53 are exact. So is a fraction of at most 15 significant digits, in the sense
// that it is printed as it was written: one that is not printed in so many digits was
// written with more.
func exactFloat(f float64) error {
	if math.Abs(f) >= MaxExactNumber {
		return errLargeNumber
	}
	if f == math.Trunc(f) {
		return nil
	}
	printed, err := strconv.ParseFloat(strconv.FormatFloat(f, 'g', 15, 64), 64)
	if err != nil || printed != f {
		return errFraction
	}
	return nil
}
