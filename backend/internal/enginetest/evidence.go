// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"github.com/transparency-dev/formats/proof"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/history"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
)

// logFiles reads the files of the evidence log through the engine's paths.
type logFiles struct{ m *Mount }

func (f logFiles) Read(_ context.Context, name string) ([]byte, error) {
	switch name {
	case verify.FileKeys:
		key := f.m.Must(Read, "evidence/key", nil)
		return []byte(strings.Join(append([]string{key["vkey"].(string)}, key["previous"].([]string)...), "\n")), nil
	case verify.FileCosigned:
		return nil, fs.ErrNotExist
	}
	if size, older := strings.CutPrefix(name, "checkpoints/"); older {
		return f.checkpoint(size)
	}
	resp, err := f.m.Call(Read, "evidence/tlog/"+name, nil)
	if Code(resp, err) == 404 {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	body, ok := resp.Data[logical.HTTPRawBody].([]byte)
	if !ok {
		return nil, errors.New("not a raw file")
	}
	return body, nil
}

// checkpoint returns the checkpoint of a size, which is in the proof of its last entry.
func (f logFiles) checkpoint(size string) ([]byte, error) {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return nil, err
	}
	resp, err := f.m.Call(Read, "evidence/entries/"+strconv.FormatInt(n-1, 10), map[string]any{"size": n})
	if err != nil {
		return nil, err
	}
	var p proof.TLogProof
	err = p.Unmarshal([]byte(resp.Data["proof"].(string)))
	return p.Checkpoint, err
}

// Verified verifies the evidence log as somebody without Vault does. What a test does to
// clocks and settings may make a rotation late.
func (m *Mount) Verified() *verify.Result {
	m.T.Helper()
	return m.verified(nil)
}

// MountEvents returns the events of the mount that the log has, and verifies it.
func (m *Mount) MountEvents() []*evidence.Event {
	m.T.Helper()
	return m.Events()[""]
}

// Events returns the events that the log has, by the tenant that they are about, and
// verifies it.
func (m *Mount) Events() map[string][]*evidence.Event {
	m.T.Helper()
	events := map[string][]*evidence.Event{}
	m.verified(func(_ int64, e *evidence.Event) { events[e.TenantID] = append(events[e.TenantID], e) })
	return events
}

func (m *Mount) verified(each func(int64, *evidence.Event)) *verify.Result {
	m.T.Helper()
	key := m.Must(Read, "evidence/key", nil)
	result, err := verify.Log(context.Background(), logFiles{m}, verify.Options{
		VKeys: append(key["previous"].([]string), key["vkey"].(string)), Now: m.clock(), Each: each,
	})
	require.NoError(m.T, err)
	for _, f := range result.Broken {
		kept := m.KeysMayStay && f.Code == history.CodeNotDestroyed
		early := m.KeysMayGoEarly && f.Code == history.CodeEarly
		if f.Code != history.CodeLate && !kept && !early {
			require.Fail(m.T, "the evidence log does not verify", f.Text)
		}
	}
	return result
}

// attested checks that the log verifies, has the end of each rotation that has ended,
// and lacks nothing that the tenant's record carries.
func (w *Oracle) attested() {
	w.T.Helper()
	require.Zero(w.T, w.Must(Read, "status", nil)["evidence_pending"])
	all := w.Events()
	events := all[""]
	w.settingsAttested(events)
	w.keksAttested(events)
	w.providersAttested(events)
	if !w.Exists() {
		return
	}
	w.ownKEKsAttested(all[TenantID])
	logged, seq := w.entriesOf(TenantID)
	rec := w.Record()
	require.EqualValues(w.T, rec.EvidenceSeq, seq[rec.Incarnation], "the number of the latest event")
	for _, carried := range rec.Unlogged {
		require.True(w.T, w.Engine.Ledger.Knows(rec.ID, rec.Incarnation, carried), "event %d", carried.Seq)
	}
	for _, r := range w.RotationsOf(TenantID) {
		id, status := r["rotation_id"].(string), r["status"].(string)
		require.True(w.T, logged[id+" rotation-started"], "the start of %s", id)
		if status == "paused" {
			continue // at rest without an end
		}
		require.True(w.T, logged[id+" rotation-"+strings.ReplaceAll(status, "_", "-")], "the end of %s: %s", id, status)
	}
}

// entriesOf reads the entries about a tenant: which events of which rotations there are,
// and the latest number of each incarnation, below which none may be missing.
func (m *Mount) entriesOf(tenantID string) (logged map[string]bool, seq map[string]int64) {
	m.T.Helper()
	logged, seq = map[string]bool{}, map[string]int64{}
	for _, e := range m.Entries(tenantID) {
		require.Equal(m.T, seq[e.Incarnation]+1, e.Seq)
		seq[e.Incarnation] = e.Seq
		text, err := json.Marshal(e.Detail)
		require.NoError(m.T, err)
		var about struct {
			RotationID string `json:"rotation_id"`
		}
		require.NoError(m.T, json.Unmarshal(text, &about))
		logged[fmt.Sprintf("%s %s", about.RotationID, e.Type())] = true
	}
	return logged, seq
}

// Entries reads the entries of the evidence log about a tenant, oldest first.
func (m *Mount) Entries(tenantID string) (all []*evidence.Event) {
	m.T.Helper()
	for _, index := range m.indexesOf(tenantID) {
		data := m.Must(Read, "tenants/"+tenantID+"/evidence/"+index, nil)
		leaf, err := base64.StdEncoding.DecodeString(data["leaf"].(string))
		require.NoError(m.T, err)
		e, err := evidence.Decode(leaf)
		require.NoError(m.T, err)
		all = append(all, e)
	}
	return all
}

// indexesOf lists the entries about a tenant, in parts: an answer has 1,000 at most.
func (m *Mount) indexesOf(tenantID string) (all []string) {
	m.T.Helper()
	for data := (map[string]any)(nil); ; data = map[string]any{"after": all[len(all)-1]} {
		part, _ := m.Must(logical.ListOperation, "tenants/"+tenantID+"/evidence", data)["keys"].([]string)
		if len(part) == 0 {
			return all
		}
		all = append(all, part...)
	}
}
