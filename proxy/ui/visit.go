// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// visit is one request of a person.
type visit struct {
	site    *site
	w       http.ResponseWriter
	r       *http.Request
	session *session
	caps    map[string][]string
}

// places are the views of the whole mount, and the path whose capability offers each.
var places = []struct{ view, text, path, need string }{
	{"fleet", "nav.fleet", "fleet", "read"},
	{"campaigns", "nav.campaigns", "rotations", "list"},
	{"settings", "nav.settings", "key/rotationSettings", "read"},
	{"providers", "nav.providers", "providers", "list"},
	{"evidence", "nav.evidence", "evidence/tlog/checkpoint", "read"},
}

// learn asks Vault what the person may do at these paths, and at those of the navigation.
func (v *visit) learn(ctx context.Context, paths ...string) error {
	for _, p := range places {
		paths = append(paths, p.path)
	}
	slices.Sort(paths)
	caps, err := v.session.account.Capabilities(ctx, slices.Compact(paths))
	if err != nil {
		return err
	}
	v.caps = caps
	return nil
}

// may reports whether Vault allows an operation at a path that the visit has learned.
func (v *visit) may(path, need string) bool {
	have := v.caps[path]
	return slices.Contains(have, "root") || slices.Contains(have, need)
}

// require learns, and refuses where the view's own path is not allowed. Vault would,
// too; this answer says it without a call that its audit log calls an attempt.
func (v *visit) require(path, need string, more ...string) error {
	if err := v.learn(v.r.Context(), append(more, path)...); err != nil {
		return err
	}
	if !v.may(path, need) {
		return &Refusal{Status: http.StatusForbidden, Reason: text("error.policies")}
	}
	return nil
}

// nav offers the views that the person may see. It has none before the visit has learned.
func (v *visit) nav() []link {
	var links []link
	for _, p := range places {
		if v.may(p.path, p.need) {
			at := Root + p.view
			links = append(links, link{Path: at, Text: text(p.text), Here: v.r.URL.Path == at || strings.HasPrefix(v.r.URL.Path, at+"/")})
		}
	}
	return links
}

func (v *visit) do(r vault.Request, out any) error {
	raw, err := v.session.account.Do(v.r.Context(), r)
	if err != nil || out == nil || len(raw) == 0 {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return &Refusal{Status: http.StatusBadGateway, Reason: text("error.answer")}
	}
	return nil
}

func (v *visit) get(path string, query url.Values, out any) error {
	return v.do(vault.Request{Method: http.MethodGet, Path: path, Query: query}, out)
}

func (v *visit) put(path string, body map[string]any, out any) error {
	return v.do(vault.Request{Method: http.MethodPut, Path: path, Body: body}, out)
}

// list returns keys, none where Vault answers 404 for an empty list.
func (v *visit) list(path string, query url.Values) ([]string, error) {
	if query == nil {
		query = url.Values{}
	}
	query.Set("list", "true")
	var out struct {
		Keys []string `json:"keys"`
	}
	err := v.get(path, query, &out)
	if isAbsent(err) {
		return nil, nil
	}
	return out.Keys, err
}

// isAbsent reports whether Vault has nothing there.
func isAbsent(err error) bool {
	var refused *Refusal
	return errors.As(err, &refused) && refused.Status == http.StatusNotFound
}

// show shows a view.
func (v *visit) show(view, title string, data any) error {
	if v.caps == nil {
		if err := v.learn(v.r.Context()); err != nil {
			return err
		}
	}
	v.site.views.show(v, http.StatusOK, view, title, data)
	return nil
}

// back ends an action: what it did is said by the page that follows.
func (v *visit) back(path, sentence string) error { return v.backUntil(path, sentence, nil) }

// backUntil is back with a sentence that ends with a time.
func (v *visit) backUntil(path, sentence string, until *time.Time) error {
	v.session.say(&said{sentence, until})
	http.Redirect(v.w, v.r, path, http.StatusSeeOther)
	return nil
}

var (
	uuidForm     = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	rotationForm = regexp.MustCompile(`^rot-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	numberForm   = regexp.MustCompile(`^(0|[1-9][0-9]{0,14})$`)
)

// part reads a part of the path that must have a form: it becomes a part of a path of
// Vault's.
func (v *visit) part(name string, form *regexp.Regexp) (string, error) {
	value := strings.ToLower(v.r.PathValue(name))
	if !form.MatchString(value) {
		return "", &Refusal{Status: http.StatusNotFound, Reason: text("error.no-page")}
	}
	return value, nil
}
