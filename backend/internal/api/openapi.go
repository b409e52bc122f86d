// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package api

import (
	"encoding/json"
	"fmt"

	"github.com/hashicorp/vault/sdk/logical"
)

// KeepReferences adds to each "$ref" of the OpenAPI document in an answer to a request
// for help a twin key "Ref". Vault decodes an external plugin's document into structures
// whose field for references has that name in Go alone: without the twin every request
// and every answer has an empty schema in the document that Vault serves.
func KeepReferences(resp *logical.Response) error {
	if resp == nil || resp.Data["openapi"] == nil {
		return nil
	}
	encoded, err := json.Marshal(resp.Data["openapi"])
	if err != nil {
		return fmt.Errorf("encoding the OpenAPI document: %w", err)
	}
	var doc map[string]any
	if err := json.Unmarshal(encoded, &doc); err != nil {
		return fmt.Errorf("decoding the OpenAPI document: %w", err)
	}
	twinReferences(doc)
	resp.Data["openapi"] = doc
	return nil
}

func twinReferences(value any) {
	switch v := value.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			v["Ref"] = ref
		}
		for _, member := range v {
			twinReferences(member)
		}
	case []any:
		for _, element := range v {
			twinReferences(element)
		}
	}
}
