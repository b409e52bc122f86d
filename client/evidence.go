// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// EvidenceKey is the key that signs the evidence log.
type EvidenceKey struct {
	VKey      string    `json:"vkey"`   // the verifier key of a signed note
	Origin    string    `json:"origin"` // the log's name
	CreatedAt time.Time `json:"created_at"`
	Previous  []string  `json:"previous"` // older verifier keys, oldest first
}

// EvidenceCheckpoint is the present checkpoint of the evidence log.
type EvidenceCheckpoint struct {
	Checkpoint string    `json:"checkpoint"` // the signed note
	Size       int64     `json:"size"`       // how many entries it has
	RootHash   string    `json:"root_hash"`  // base64
	SignedAt   time.Time `json:"signed_at"`
	Cosigned   string    `json:"cosigned"` // the greatest that all witnesses cosigned; empty: none
}

// EvidenceEntry is an entry of the evidence log with its proof, which the packages below
// evidence/ of this module verify.
type EvidenceEntry struct {
	Entry    json.RawMessage `json:"entry"`     // an in-toto Statement
	Leaf     []byte          `json:"leaf"`      // the bytes that are hashed
	LeafHash string          `json:"leaf_hash"` // base64
	Proof    string          `json:"proof"`     // a c2sp.org/tlog-proof@v1 text
}

// EvidenceCheck says how the log stands to a checkpoint that was kept outside.
// [Error.Data] of an [ErrConflict] decodes into it, too: then Consistent is false, and
// with the entries that the log lacks it says what came back.
type EvidenceCheck struct {
	Consistent bool      `json:"consistent"`
	Size       int64     `json:"size"`
	Missing    int64     `json:"missing"` // how many entries the kept log has more
	Keys       []BackKey `json:"keys"`
	Tenants    []string  `json:"tenants"`
}

// BackKey is a key that had been destroyed and came back with a snapshot.
type BackKey struct {
	TenantID string `json:"tenant_id"` // empty: the mount's
	Version  int    `json:"version"`   // 0: it has none
	KeyID    string `json:"key_id"`
	Which    string `json:"which"` // page, external, placement or kek
}

// EvidenceKey reads the key that signs the evidence log.
func (c *Client) EvidenceKey(ctx context.Context) (*EvidenceKey, error) {
	out := new(EvidenceKey)
	return orNil(out, c.do(ctx, call{op: "read evidence key", method: http.MethodGet, path: "evidence/key"}, out))
}

// RotateEvidenceKey makes another signing key and returns its verifier key. It is not
// repeated when its outcome is unknown: that would make one more.
func (c *Client) RotateEvidenceKey(ctx context.Context, reason string) (vkey string, err error) {
	var answer struct {
		VKey string `json:"vkey"`
	}
	err = c.do(ctx, call{
		op: "rotate evidence key", method: http.MethodPut, path: "evidence/key/rotate",
		body: map[string]string{"reason": reason}, repeat: ifRefused,
	}, &answer)
	return answer.VKey, err
}

// EvidenceCheckpoint reads the present checkpoint.
func (c *Client) EvidenceCheckpoint(ctx context.Context) (*EvidenceCheckpoint, error) {
	out := new(EvidenceCheckpoint)
	return orNil(out, c.do(ctx, call{op: "read evidence checkpoint", method: http.MethodGet, path: "evidence/checkpoint"}, out))
}

// EvidenceEntries lists the indexes of entries, as decimal text: 1,000 unless the page
// has a lower limit.
func (c *Client) EvidenceEntries(ctx context.Context, p Page) ([]string, error) {
	return c.list(ctx, "list evidence entries", "evidence/entries", p)
}

// EvidenceEntry reads an entry, with its proof for the checkpoint of that size; 0: for the
// present one.
func (c *Client) EvidenceEntry(ctx context.Context, index, size int64) (*EvidenceEntry, error) {
	return c.evidenceEntry(ctx, "evidence/entries/", index, size)
}

// Evidence lists the indexes of the entries about the tenant, those of its tombstones
// included, as [Client.EvidenceEntries] does.
func (t *Tenant) Evidence(ctx context.Context, p Page) ([]string, error) {
	return t.c.list(ctx, "list tenant's evidence", t.path("/evidence"), p)
}

// EvidenceEntry is [Client.EvidenceEntry] for an entry about the tenant. Any other is
// [ErrNotFound].
func (t *Tenant) EvidenceEntry(ctx context.Context, index, size int64) (*EvidenceEntry, error) {
	return t.c.evidenceEntry(ctx, t.path("/evidence/"), index, size)
}

func (c *Client) evidenceEntry(ctx context.Context, below string, index, size int64) (*EvidenceEntry, error) {
	query := url.Values{}
	if size > 0 {
		query.Set("size", strconv.FormatInt(size, 10))
	}
	out := new(EvidenceEntry)
	return orNil(out, c.do(ctx, call{
		op: "read evidence entry", method: http.MethodGet, path: below + strconv.FormatInt(index, 10), query: query,
	}, out))
}

var evidenceFile = regexp.MustCompile(`^(checkpoint|tile/(entries|[0-9]{1,2})(/x[0-9]{3})*/[0-9]{3}(\.p/[0-9]{1,3})?)$`)

// EvidenceFile reads a file of tlog-tiles, such as checkpoint or tile/0/000, as it is. It
// fails with [ErrEvidenceFile] for what is none.
func (c *Client) EvidenceFile(ctx context.Context, name string) ([]byte, error) {
	if !evidenceFile.MatchString(name) {
		return nil, ErrEvidenceFile
	}
	var text string
	err := c.do(ctx, call{op: "read evidence file", method: http.MethodGet, path: "evidence/tlog/" + name, raw: true}, &text)
	if err != nil {
		return nil, err
	}
	return []byte(text), nil
}

type witnesses struct {
	Witnesses []string `json:"witnesses"`
}

// Witnesses reads the verifier keys of those whose cosignatures are kept.
func (c *Client) Witnesses(ctx context.Context) ([]string, error) {
	var answer witnesses
	err := c.do(ctx, call{op: "read witnesses", method: http.MethodGet, path: "evidence/witnesses"}, &answer)
	return answer.Witnesses, err
}

// SetWitnesses says whose cosignatures are kept: vkeys are all of them.
func (c *Client) SetWitnesses(ctx context.Context, vkeys []string) error {
	return c.do(ctx, call{
		op: "write witnesses", method: http.MethodPut, path: "evidence/witnesses", body: witnesses{append([]string{}, vkeys...)},
	}, nil)
}

// Cosign hands in signature lines of a witness for a checkpoint that is kept.
func (c *Client) Cosign(ctx context.Context, lines string) error {
	return c.do(ctx, call{
		op: "cosign evidence", method: http.MethodPut, path: "evidence/cosign", body: map[string]string{"cosignature": lines},
	}, nil)
}

// personPath refuses what would be cleaned into another path.
func personPath(person string) (string, error) {
	if person == "" || person == "." || person == ".." || strings.Contains(person, "/") {
		return "", ErrPerson
	}
	return "evidence/people/" + person, nil
}

// Person reads who an actor of the evidence log is. Once erased it is [ErrNotFound].
func (c *Client) Person(ctx context.Context, person string) (*Person, error) {
	path, err := personPath(person)
	if err != nil {
		return nil, err
	}
	out := new(Person)
	return orNil(out, c.do(ctx, call{op: "read person", method: http.MethodGet, path: path}, out))
}

// ErasePerson erases the name and the email of a person everywhere: by the actor of an
// entry, or by the ID that initiated_by has. It is not repeated when its outcome is unknown;
// the caller may, and takes [ErrNotFound] for done.
func (c *Client) ErasePerson(ctx context.Context, person string) error {
	path, err := personPath(person)
	if err != nil {
		return err
	}
	return c.do(ctx, call{op: "erase person", method: http.MethodDelete, path: path, repeat: ifRefused}, nil)
}

// CheckEvidence compares the log with a checkpoint that was kept outside. leaves are the
// last entries of the kept log, at most 10,000, or none. If storage went back it fails with
// [ErrConflict]: see [EvidenceCheck].
func (c *Client) CheckEvidence(ctx context.Context, checkpoint string, leaves [][]byte) (*EvidenceCheck, error) {
	body := map[string]any{"checkpoint": checkpoint}
	if len(leaves) > 0 {
		body["entries"] = leaves
	}
	out := new(EvidenceCheck)
	return orNil(out, c.do(ctx, call{op: "check evidence", method: http.MethodPut, path: "evidence/check", body: body}, out))
}
