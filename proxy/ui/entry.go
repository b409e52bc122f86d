// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

type entryPage struct {
	Index    string
	Summary  entrySummary
	Entry    string
	LeafHash string
	Proof    string
	Person   *vault.Person
	Back     string
}

// entry is GET /ui/evidence/entries/{index}.
func (s *site) entry(v *visit) error {
	return v.showEntry("evidence/entries", Root+"evidence")
}

// tenantEntry is GET /ui/tenants/{tenant}/evidence/{index}.
func (s *site) tenantEntry(v *visit) error {
	id, err := v.part("tenant", uuidForm)
	if err != nil {
		return err
	}
	at := pathsOf(id)
	return v.showEntry(at.evidence, Root+at.tenant)
}

func (v *visit) showEntry(below, back string) error {
	index, err := v.part("index", numberForm)
	if err != nil {
		return err
	}
	var e entryAnswer
	if err := v.get(below+"/"+index, nil, &e); err != nil {
		return err
	}
	leaf, err := base64.StdEncoding.DecodeString(e.Leaf)
	if err != nil {
		return &Refusal{Status: http.StatusBadGateway, Reason: text("error.answer")}
	}
	number, _ := strconv.ParseInt(index, 10, 64)
	data := &entryPage{Index: index, Entry: indented(leaf), LeafHash: e.LeafHash, Proof: e.Proof, Back: back}
	if data.Summary, err = summary(number, leaf, ""); err != nil {
		return err
	}
	if err := v.findPerson(data); err != nil {
		return err
	}
	return v.show("entry", text("entry.title", index), data)
}

var actorForm = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// findPerson reads who an actor is, where the person who asks may and it was not erased.
func (v *visit) findPerson(data *entryPage) error {
	actor := data.Summary.Actor
	at := "evidence/people/" + actor
	if !actorForm.MatchString(actor) {
		return nil
	}
	if err := v.learn(v.r.Context(), at); err != nil || !v.may(at, "read") {
		return err
	}
	var p vault.Person
	err := v.get(at, nil, &p)
	if isAbsent(err) {
		return nil
	}
	data.Person = &p
	return err
}

func indented(leaf []byte) string {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if enc.Encode(json.RawMessage(leaf)) != nil {
		return string(leaf)
	}
	return out.String()
}
