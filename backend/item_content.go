// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"math"

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
	if !exactNumbers(data) {
		return nil, api.Invalid("data must not have a number of magnitude 2^53 or more, which would arrive changed: send it as a string")
	}
	encoded, err := json.Marshal(data)
	if err != nil {
		return nil, api.Invalid("data must be an object of JSON values")
	}
	return encoded, nil
}

func exactNumbers(value any) bool {
	switch v := value.(type) {
	case map[string]any:
		for _, member := range v {
			if !exactNumbers(member) {
				return false
			}
		}
	case []any:
		for _, element := range v {
			if !exactNumbers(element) {
				return false
			}
		}
	case float64:
		return math.Abs(v) < api.MaxExactNumber
	case json.Number:
		f, err := v.Float64()
		return err == nil && math.Abs(f) < api.MaxExactNumber
	case int:
		return v > -api.MaxExactNumber && v < api.MaxExactNumber
	case int64:
		return v > -api.MaxExactNumber && v < api.MaxExactNumber
	}
	return true
}
