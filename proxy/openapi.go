// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	_ "embed"
	"net/http"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
)

//go:embed openapi.json
var openAPI string

// getOpenAPI is GET /openapi.json: OpenAPI 3.1 of the routes.
func (p *Proxy) getOpenAPI(w http.ResponseWriter, _ *http.Request) error {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write([]byte(strings.Replace(openAPI, "{{version}}", strings.TrimPrefix(version.Version(), "v"), 1)))
	return nil
}
