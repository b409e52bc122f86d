// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

const (
	prefix          = "tenants/"
	historyPrefix   = "history/"
	progressPrefix  = "progress/"
	usePrefix       = "uses/"
	tombstonePrefix = "tombstones/"
)

// Shards is the number of prefixes over which tenants are spread: see shard.
const Shards = 256

// shard is the part of a tenant's path that spreads a million tenants over 256
// prefixes: Raft lists a whole subtree, so no prefix may have a million children.
// It is of a hash since UUIDs of version 7 begin alike.
func shard(tenantID string) string {
	return hex.EncodeToString([]byte{ShardOf(tenantID)})
}

// ShardOf returns the number of the prefix under which a tenant lies.
func ShardOf(tenantID string) byte {
	return sha256.Sum256([]byte(tenantID))[0]
}

func recordKey(tenantID string) string {
	return prefix + shard(tenantID) + "/" + tenantID
}

func historyOf(incarnation string) string { return historyPrefix + incarnation + "/" }

// historyKey sorts as versions do.
func historyKey(incarnation string, version int) string {
	return fmt.Sprintf("%s%010d", historyOf(incarnation), version)
}

func progressKey(incarnation string) string { return progressPrefix + incarnation }

func externalUseKey(incarnation string) string { return usePrefix + incarnation }
