// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Storage prefixes and keys; doc.go has the whole picture.
const (
	configKey   = "config"
	settingsKey = "settings"
	kekCurrent  = "kek/current"

	kekPrefix      = "kek/keys/"
	tenantPrefix   = "tenants/"
	keyPrefix      = "keys/"
	pagePrefix     = "pages/"
	historyPrefix  = "history/"
	progressPrefix = "progress/"
	sealsPrefix    = "seals/"

	tombstonePrefix = "tombstones/"

	wrappingKeyKey = "import/wrapping_key"
)

// SealWrapped lists the entries that hold keys, those ending in a slash as
// prefixes: Vault Enterprise wraps them with its seal on top of the barrier.
func SealWrapped() []string { return []string{kekPrefix, keyPrefix, wrappingKeyKey} }

// TenantShards is over how many prefixes tenants are spread: see shard.
const TenantShards = 256

// shard is the part of a tenant's path that spreads a million tenants over 256
// prefixes. It is of a hash since UUIDs of version 7 begin alike.
func shard(tenantID string) string {
	return hex.EncodeToString([]byte{shardOf(tenantID)})
}

func shardOf(tenantID string) byte {
	return sha256.Sum256([]byte(tenantID))[0]
}

func tenantKey(tenantID string) string {
	return tenantPrefix + shard(tenantID) + "/" + tenantID
}

func wrappedKeyKey(incarnation, keyID string) string {
	return keyPrefix + incarnation + "/" + keyID
}

func pagesOf(incarnation string) string { return pagePrefix + incarnation + "/" }

func pageKey(incarnation string, p Place) string {
	return pagesOf(incarnation) + "p" + string(p)
}

func deltaKey(incarnation string, p Place) string {
	return pagesOf(incarnation) + "d" + string(p)
}

// incarnationOfPage is whose page, or delta, the entry at key is.
func incarnationOfPage(key string) string {
	incarnation, _, _ := strings.Cut(strings.TrimPrefix(key, pagePrefix), "/")
	return incarnation
}

func historyOf(incarnation string) string { return historyPrefix + incarnation + "/" }

// historyKey sorts as versions do.
func historyKey(incarnation string, version int) string {
	return fmt.Sprintf("%s%010d", historyOf(incarnation), version)
}

func progressKey(incarnation string) string { return progressPrefix + incarnation }

func sealsOf(incarnation string) string { return sealsPrefix + incarnation + "/" }

// sealsKey is the same for both keys of a version.
func sealsKey(incarnation, keyID string) string { return sealsOf(incarnation) + versionKeyID(keyID) }
