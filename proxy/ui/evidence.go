// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// bundle is how many entries a file of entries has: tlog-tiles.
	bundle = 256
	// evidencePart is how many entries a part of the log has; it divides bundle.
	evidencePart = 64
	// tenantPart is how many entries a tenant's page has. Each is a call.
	tenantPart = 10
	// listPart is how many indexes an answer of Vault has, and listParts how many of
	// those are read to find the latest.
	listPart, listParts = 1000, 20
)

// entrySummary is an entry in a list.
type entrySummary struct {
	Index    int64
	Type     string
	Time     time.Time
	TenantID string
	Actor    string
	Path     string
}

// statement is what the page reads of an in-toto Statement.
type statement struct {
	PredicateType string `json:"predicateType"`
	Predicate     struct {
		Time     time.Time `json:"time"`
		TenantID string    `json:"tenant_id"`
		Actor    string    `json:"actor"`
	} `json:"predicate"`
}

func summary(index int64, leaf []byte, path string) (entrySummary, error) {
	var s statement
	if err := json.Unmarshal(leaf, &s); err != nil {
		return entrySummary{}, &Refusal{Status: http.StatusBadGateway, Reason: text("error.answer")}
	}
	parts := strings.Split(s.PredicateType, "/")
	kind := ""
	if len(parts) >= 2 {
		kind = parts[len(parts)-2]
	}
	return entrySummary{index, kind, s.Predicate.Time, s.Predicate.TenantID, s.Predicate.Actor, path}, nil
}

type entryAnswer struct {
	Entry    json.RawMessage `json:"entry"`
	Leaf     string          `json:"leaf"`
	LeafHash string          `json:"leaf_hash"`
	Proof    string          `json:"proof"`
}

// readEvidence reads the latest entries about a tenant.
func (v *visit) readEvidence(data *tenantPage, at paths) error {
	if !v.may(at.evidence, "list") {
		return nil
	}
	data.SeesEvidence = true
	var last []string
	q := url.Values{"limit": {strconv.Itoa(listPart)}}
	for range listParts {
		keys, err := v.list(at.evidence, q)
		if err != nil {
			return err
		}
		last = append(last, keys...)
		last = last[max(0, len(last)-tenantPart):]
		if len(keys) < listPart {
			break
		}
		q.Set("after", keys[len(keys)-1])
	}
	data.Evidence = make([]entrySummary, len(last))
	var calls errgroup.Group
	calls.SetLimit(callsAtOnce)
	for i, key := range last {
		calls.Go(func() error {
			var e entryAnswer
			if err := v.get(at.evidence+"/"+key, nil, &e); err != nil {
				return err
			}
			index, _ := strconv.ParseInt(key, 10, 64)
			one, err := summary(index, e.Entry, Root+at.evidence+"/"+key)
			data.Evidence[len(last)-1-i] = one // the latest first
			return err
		})
	}
	return calls.Wait()
}

// checkpoint is the log's size and root, as it was signed.
type checkpoint struct {
	Size     int64      `json:"size"`
	RootHash string     `json:"root_hash"`
	SignedAt *time.Time `json:"signed_at"`
}

type evidencePage struct {
	Checkpoint   checkpoint
	Entries      []entrySummary
	Older, Newer string
}

// evidence is GET /ui/evidence: the latest entries, or those before an index.
func (s *site) evidence(v *visit) error {
	if err := v.require("evidence/tlog/checkpoint", "read"); err != nil {
		return err
	}
	data := &evidencePage{}
	if err := v.get("evidence/checkpoint", nil, &data.Checkpoint); err != nil {
		return err
	}
	size := data.Checkpoint.Size
	from := max(0, size-1) / evidencePart * evidencePart
	if asked, err := strconv.ParseInt(v.r.URL.Query().Get("from"), 10, 64); err == nil && asked >= 0 && asked < size {
		from = asked / evidencePart * evidencePart
	}
	if from > 0 {
		data.Older = fmt.Sprintf("%sevidence?from=%d", Root, from-evidencePart)
	}
	if from+evidencePart < size {
		data.Newer = fmt.Sprintf("%sevidence?from=%d", Root, from+evidencePart)
	}
	if size > 0 {
		leaves, err := v.bundle(from/bundle, size)
		if err != nil {
			return err
		}
		for i := min(from+evidencePart, size) - 1; i >= from; i-- {
			one, err := summary(i, leaves[i%bundle], fmt.Sprintf("%sevidence/entries/%d", Root, i))
			if err != nil {
				return err
			}
			data.Entries = append(data.Entries, one)
		}
	}
	return v.show("evidence", text("evidence.title"), data)
}

// bundle reads a file of entries of the log as of a size.
func (v *visit) bundle(number, size int64) ([][]byte, error) {
	want := min(bundle, size-number*bundle)
	name := "evidence/tlog/tile/entries/" + tileNumber(number)
	if want < bundle {
		name += ".p/" + strconv.FormatInt(want, 10)
	}
	raw, err := v.session.account.Raw(v.r.Context(), name)
	if err != nil {
		return nil, err
	}
	var leaves [][]byte
	for len(raw) >= 2 {
		n := int(binary.BigEndian.Uint16(raw))
		if len(raw) < 2+n {
			break
		}
		leaves, raw = append(leaves, raw[2:2+n]), raw[2+n:]
	}
	if int64(len(leaves)) != want || len(raw) != 0 {
		return nil, &Refusal{Status: http.StatusBadGateway, Reason: text("error.answer")}
	}
	return leaves, nil
}

// tileNumber is a number as tlog-tiles spells it: x001/x234/067.
func tileNumber(n int64) string {
	name := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		name = fmt.Sprintf("x%03d/%s", n%1000, name)
	}
	return name
}

// verify is GET /ui/evidence/verify: the page whose script verifies the log.
func (s *site) verify(v *visit) error {
	if err := v.require("evidence/tlog/checkpoint", "read", "evidence/key"); err != nil {
		return err
	}
	return v.show("verify", text("verify.title"), nil)
}

// evidenceKey is GET /ui/evidence/key, for the script.
func (s *site) evidenceKey(v *visit) error {
	var key struct {
		VKey     string   `json:"vkey"`
		Previous []string `json:"previous"`
	}
	if err := v.get("evidence/key", nil, &key); err != nil {
		return err
	}
	return v.json(map[string]any{"vkey": key.VKey, "previous": key.Previous})
}

var fileForm = regexp.MustCompile(`^(checkpoint|tile/entries/(x[0-9]{3}/)*[0-9]{3}(\.p/[0-9]{1,3})?)$`)

// evidenceFile is GET /ui/evidence/tlog/{path...}, for the script.
func (s *site) evidenceFile(v *visit) error {
	name := v.r.PathValue("path")
	if !fileForm.MatchString(name) {
		return &Refusal{Status: http.StatusNotFound, Reason: text("error.no-page")}
	}
	raw, err := v.session.account.Raw(v.r.Context(), "evidence/tlog/"+name)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/octet-stream")
	v.w.WriteHeader(http.StatusOK)
	_, _ = v.w.Write(raw)
	return nil
}
