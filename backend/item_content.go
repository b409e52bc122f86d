// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
)

var errMetadata = api.Invalid("metadata must be an object of strings")

func parseMetadata(value any) (map[string]string, error) {
	if value == nil {
		return nil, nil
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errMetadata
	}
	metadata := make(map[string]string, len(object))
	for k, v := range object {
		text, ok := v.(string)
		if !ok {
			return nil, errMetadata
		}
		metadata[k] = text
	}
	return metadata, nil
}

// encodeData encodes the secret of an item. It refuses numbers that Vault may
// already have changed on their way here. No message names what is in it.
func encodeData(data map[string]any) ([]byte, error) {
	if err := exactNumbers(data); err != nil {
		return nil, err
	}
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false) // else <, > and & would count as six bytes each
	if err := encoder.Encode(data); err != nil {
		return nil, api.Invalid("data must be an object of JSON values")
	}
	return bytes.TrimSuffix(encoded.Bytes(), []byte("\n")), nil
}

// Vault passes numbers to plugins as float64. What is wrong with those that it may
// have changed.
var (
	errLargeNumber = api.Invalid("data must not have a number of magnitude 2^53 or more, which would arrive changed: send it as a string")
	errFraction    = api.Invalid("data must not have a fraction of more than 15 significant digits, which would arrive changed: send it as a string")
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
	if math.Abs(f) >= api.MaxExactNumber {
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
