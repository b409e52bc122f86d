// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
)

const pagePrefix = "pages/"

func pagesOf(incarnation string) string { return pagePrefix + incarnation + "/" }

func pageKey(incarnation string, p page.Prefix) string {
	return pagesOf(incarnation) + "p" + string(p)
}

func deltaKey(incarnation string, p page.Prefix) string {
	return pagesOf(incarnation) + "d" + string(p)
}

// incarnationOfPage returns the incarnation that the page or delta at key belongs to.
func incarnationOfPage(key string) string {
	incarnation, _, _ := strings.Cut(strings.TrimPrefix(key, pagePrefix), "/")
	return incarnation
}
