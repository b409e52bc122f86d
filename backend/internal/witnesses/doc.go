// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package witnesses holds the evidence log against what was kept outside of it: it keeps
// the cosignatures of witnesses with the checkpoints that they signed, and compares the
// log with a checkpoint that somebody kept.
//
//	evidence/witnesses                   the witnesses' verifier keys
//	evidence/cosignatures/<n>/<size>     signature lines for a checkpoint of log n
package witnesses

import (
	"context"
	"fmt"
	"sync"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
)

const witnessesKey = "evidence/witnesses"

func prefix(n int64) string { return fmt.Sprintf("evidence/cosignatures/%06d/", n) }

func entry(n, size int64) string { return fmt.Sprintf("%s%016d", prefix(n), size) }

// Storage holds what witnesses signed.
type Storage interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix string) ([]string, error)
}

// Store keeps the witnesses of a log, and what they signed. It is safe for concurrent
// use.
type Store struct {
	log       *evidencelog.Log
	storage   Storage
	cosigning sync.Mutex // one change of cosignatures at a time
}

// NewStore returns the witnesses of a log.
func NewStore(log *evidencelog.Log, s Storage) *Store { return &Store{log: log, storage: s} }
