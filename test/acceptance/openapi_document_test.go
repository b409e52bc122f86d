// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// document is the OpenAPI document that Vault serves, with what was held against it.
type document struct {
	paths    map[string]any
	compiler *jsonschema.Compiler
	// noPatch is what withoutPatch says of it.
	noPatch bool

	mu   sync.Mutex
	held map[string]int // answers, by operation and path
}

var (
	documentOnce sync.Once
	served200    *document
)

// documentOf reads the document once, of the stack that tests share.
func documentOf(t *testing.T) *document {
	t.Helper()
	documentOnce.Do(func() {
		a := callRoot(t, shared(t), http.MethodGet, "sys/internal/specs/openapi", nil)
		require.Equal(t, http.StatusOK, a.Status)
		d := &document{compiler: jsonschema.NewCompiler(), noPatch: withoutPatch(a.Body), held: map[string]int{}}
		d.paths, _ = a.Body["paths"].(map[string]any)
		maps.DeleteFunc(d.paths, func(path string, _ any) bool { return !strings.HasPrefix(path, "/dek/") })
		require.NoError(t, d.compiler.AddResource("openapi.json", a.Body))
		served200 = d
	})
	require.NotNil(t, served200, "the document could not be read")
	return served200
}

// withoutPatch reports whether a document is OpenBao's and leaves PATCH out. OpenBao
// decodes what a plugin says of its paths into a type that has no such operation, so the
// document of no mount has one.
func withoutPatch(served map[string]any) bool {
	info, _ := served["info"].(map[string]any)
	title, _ := info["title"].(string)
	paths, _ := served["paths"].(map[string]any)
	for _, path := range paths {
		if operations, _ := path.(map[string]any); operations["patch"] != nil {
			return false
		}
	}
	return strings.HasPrefix(title, "OpenBao")
}

// TestDocumentsWithoutPatch has the beginnings of documents as the servers make them.
func TestDocumentsWithoutPatch(t *testing.T) {
	const reads, patches = `{"/dek/config": {"get": {}}}`, `{"/dek/config": {"get": {}, "patch": {}}}`
	for served, want := range map[string]bool{
		`{"info": {"title": "OpenBao API"}, "paths": ` + reads + `}`:           true,
		`{"info": {"title": "OpenBao API"}, "paths": ` + patches + `}`:         false,
		`{"info": {"title": "HashiCorp Vault API"}, "paths": ` + reads + `}`:   false,
		`{"info": {"title": "HashiCorp Vault API"}, "paths": ` + patches + `}`: false,
		`{"paths": {}}`: false,
	} {
		assert.Equal(t, want, withoutPatch(decoded(t, served)), served)
	}
}

// holds checks a successful answer of the engine against the schema that the document
// gives for it, and that it has no field which the schema does not describe. A field
// that is null may as well be missing: the documents that Vault makes cannot say that a
// field may be null.
func (d *document) holds(t *testing.T, method, path string, a answer) {
	t.Helper()
	at, query, _ := strings.Cut(path, "?")
	if method == "LIST" || strings.Contains(query, "list=true") {
		method, at = "list", strings.TrimSuffix(at, "/")
	}
	if method == http.MethodPatch && d.noPatch {
		return
	}
	operation, template, found := d.find(method, at)
	if !assert.True(t, found, "%s %s is not in the document", method, at) {
		return
	}
	d.mu.Lock()
	d.held[operation+" "+strings.TrimPrefix(template, "/dek/")]++
	d.mu.Unlock()
	schema := d.schema(t, operation, template)
	if schema == nil {
		return
	}
	assert.NoError(t, schema.Validate(withoutNulls(a.Body["data"])), "%s %s", operation, template)
	for schema.Ref != nil {
		schema = schema.Ref
	}
	for field := range a.data() {
		assert.Contains(t, schema.Properties, field, "%s %s answers a field that is not in the document", operation, template)
	}
}

var documentMethods = map[string]string{"read": "get", "list": "get", "update": "post", "patch": "patch", "delete": "delete"}

// find returns the operation and the path of the document that a request is for: of
// those that match, the one with the fewest parameters, and of two such the longer.
func (d *document) find(method, path string) (operation, template string, found bool) {
	operation = map[string]string{
		http.MethodGet: "read", "list": "list", http.MethodPut: "update", http.MethodPost: "update",
		http.MethodPatch: "patch", http.MethodDelete: "delete",
	}[method]
	least := 100
	for candidate, described := range d.paths {
		op, _ := described.(map[string]any)[documentMethods[operation]].(map[string]any)
		if op == nil || listsKeys(op) != (operation == "list") || !matchesTemplate(strings.TrimSuffix(candidate, "/"), "/"+path) {
			continue
		}
		if n := strings.Count(candidate, "{"); n < least || n == least && len(candidate) > len(template) {
			template, least, found = candidate, n, true
		}
	}
	return operation, template, found
}

// listsKeys tells a list from a read: it requires the parameter list.
func listsKeys(op map[string]any) bool {
	parameters, _ := op["parameters"].([]any)
	for _, p := range parameters {
		if p := p.(map[string]any); p["name"] == "list" && p["required"] == true {
			return true
		}
	}
	return false
}

// matchesTemplate reports whether a path is one of a template's. Names of items may have
// slashes in them.
func matchesTemplate(template, path string) bool {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	for i, part := range want {
		parameter := strings.HasPrefix(part, "{")
		if part == "{name}" && i == len(want)-1 {
			return len(got) > i
		}
		if i >= len(got) || !parameter && part != got[i] || part == "{kind}" && !slices.Contains(itemKinds, got[i]) {
			return false
		}
	}
	return len(want) == len(got)
}

// schema is that of the answer of 200, nil if the document has an answer without one.
func (d *document) schema(t *testing.T, operation, template string) *jsonschema.Schema {
	t.Helper()
	at := "/paths/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(template)) +
		"/" + documentMethods[operation] + "/responses/200/content/application~1json/schema"
	d.mu.Lock()
	defer d.mu.Unlock()
	schema, err := d.compiler.Compile("openapi.json#" + at)
	if !assert.NoError(t, err, "%s %s has no schema for 200", operation, template) {
		return nil
	}
	return schema
}

func withoutNulls(value any) any {
	switch v := value.(type) {
	case map[string]any:
		some := map[string]any{}
		for name, member := range v {
			if member != nil {
				some[name] = withoutNulls(member)
			}
		}
		return some
	case []any:
		all := make([]any, len(v))
		for i, element := range v {
			all[i] = withoutNulls(element)
		}
		return all
	}
	return value
}

// TestAnswersHoldAgainstTheDocument makes each operation of the engine succeed once, and
// holds the answers against the document. Every other test's answers are held against it
// as well, by call.
func TestAnswersHoldAgainstTheDocument(t *testing.T) {
	s := shared(t)
	d := documentOf(t)
	tenant := newTenant(t, s)
	under := func(rest string) string { return tenantPath(tenant, rest) }
	record := "dek/tenants/" + tenant
	ok := func(method, path string, body any) map[string]any {
		t.Helper()
		a := callRoot(t, s, method, path, body)
		require.Contains(t, []int{http.StatusOK, http.StatusNoContent}, a.Status, "%s %s: %s", method, path, a.errors())
		return a.data()
	}
	post := func(path string, body any) map[string]any { t.Helper(); return ok(http.MethodPost, path, body) }
	get := func(path string) map[string]any { t.Helper(); return ok(http.MethodGet, path, nil) }
	list := func(path string) { t.Helper(); ok("LIST", path, nil) }

	everyItem(t, s, tenant, ok)
	get(record)
	list("dek/tenants")
	get("dek/config")
	post("dek/config", map[string]any{"max_concurrent_rotations": 64})
	get("dek/key/rotationSettings")
	post("dek/key/rotationSettings", map[string]any{"rotation_interval": "365_DAYS"})
	ok(http.MethodPatch, "dek/key/rotationSettings", map[string]any{"rotation_interval": "365_DAYS"})
	get("dek/status")
	get("dek/fleet")
	get(under("dek"))
	get(under("dek/current"))
	post(under("dek/config"), map[string]any{"min_decryption_version": 1})

	post(under("holders/orders"), map[string]any{"description": "a table"})
	get(under("holders/orders"))
	list(under("holders"))
	scan := post(under("holders/orders/report/start"), nil)["scan_started_at"]
	post(under("holders/orders/report"), map[string]any{"oldest_version": 1, "counts": map[string]any{"1": 7}, "scan_started_at": scan})

	everyRotation(t, s, tenant, ok)
	list(under("dek/rotations"))
	post("dek/rotations", map[string]any{"tenants": []string{newTenant(t, s)}, "reason": "asked for"})
	get("dek/kek")
	post("dek/kek/rotate", nil)
	everyProvider(t, s, ok)
	get("dek/wrapping_key")
	post("dek/wrapping_key/rotate", nil)

	ok(http.MethodDelete, record+"?deletion_window=24h", nil)
	post(under("restore"), nil)
	gone := newTenant(t, s)
	ok(http.MethodDelete, "dek/tenants/"+gone+"?deletion_window=0", nil)
	list("dek/tombstones")
	get("dek/tombstones/" + gone)
	everyEvidence(t, tenant, ok)

	for _, p := range served() {
		if p.path == "metrics" || strings.HasPrefix(p.path, "evidence/tlog/") {
			continue // no object
		}
		answered := 0
		for _, path := range []string{p.path, p.path + "/"} {
			d.mu.Lock()
			answered += d.held[p.operation+" "+path]
			d.mu.Unlock()
		}
		op := describedOperation(d.paths, p)
		responses, _ := op["responses"].(map[string]any)
		if responses["200"] != nil {
			assert.NotZero(t, answered, "no answer of %s %s was held against the document: make one here", p.operation, p.path)
		}
	}
}

// everyProvider makes the operations of key providers succeed.
func everyProvider(t *testing.T, s *devstack.Stack, ok func(method, path string, body any) map[string]any) {
	t.Helper()
	owner := newTransitOwner(t, s)
	ok(http.MethodPost, "dek/providers/document", owner.provider())
	ok(http.MethodGet, "dek/providers/document", nil)
	ok("LIST", "dek/providers", nil)
	ok(http.MethodPost, "dek/providers/document/check", nil)
	everyMove(t, ok)
	ok(http.MethodDelete, "dek/providers/document", nil)
}

// everyMove makes the operations of a tenant's own key-encryption key succeed.
func everyMove(t *testing.T, ok func(method, path string, body any) map[string]any) {
	t.Helper()
	path := "dek/tenants/" + uuid.NewString()
	ok(http.MethodPost, path, map[string]any{"key_provider": "document"})
	ok(http.MethodPost, path+"/kek/rotate", map[string]any{"provider": ""})
	require.Eventually(t, func() bool { return ok(http.MethodGet, path+"/kek", nil)["status"] == "completed" }, time.Minute, 50*time.Millisecond)
}

// everyEvidence makes the operations of the evidence log succeed.
func everyEvidence(t *testing.T, tenant string, ok func(method, path string, body any) map[string]any) {
	t.Helper()
	ok(http.MethodGet, "dek/evidence/key", nil)
	checkpoint := ok(http.MethodGet, "dek/evidence/checkpoint", nil)["checkpoint"]
	ok(http.MethodPost, "dek/evidence/check", map[string]any{"checkpoint": checkpoint})
	ok("LIST", "dek/evidence/entries", nil)
	indexes, _ := ok("LIST", tenantPath(tenant, "evidence"), nil)["keys"].([]any)
	require.NotEmpty(t, indexes)
	index, _ := indexes[0].(string)
	ok(http.MethodGet, tenantPath(tenant, "evidence/"+index), nil)
	entry, _ := ok(http.MethodGet, "dek/evidence/entries/"+index, nil)["entry"].(map[string]any)
	predicate, _ := entry["predicate"].(map[string]any)
	person, _ := predicate["actor"].(string)
	ok(http.MethodGet, "dek/evidence/people/"+person, nil)
	ok(http.MethodGet, "dek/evidence/witnesses", nil)
	ok(http.MethodPost, "dek/evidence/witnesses", map[string]any{"witnesses": []string{}})
	ok(http.MethodPost, "dek/evidence/key/rotate", nil)
}

// everyItem makes the operations of items and of encryption succeed.
func everyItem(t *testing.T, s *devstack.Stack, tenant string, ok func(method, path string, body any) map[string]any) {
	t.Helper()
	under := func(rest string) string { return tenantPath(tenant, rest) }
	secret := map[string]any{"data": map[string]any{"password": "x"}, "metadata": map[string]any{"owner": "billing"}}
	ok(http.MethodPost, under("secrets/db/main"), secret)
	ok(http.MethodPatch, under("secrets/db/main"), map[string]any{"data": map[string]any{"user": "y"}})
	ok(http.MethodGet, under("secrets/db/main"), nil)
	ok("LIST", under("secrets"), nil)
	ok(http.MethodDelete, under("secrets/db/main"), nil)
	ok(http.MethodPost, under("items/read"), map[string]any{"items": []any{map[string]any{"kind": "secrets", "name": "db/main"}}})
	everyKV(tenant, ok)
	ciphertext := ok(http.MethodPost, under("encrypt"), map[string]any{"plaintext": "eA=="})["ciphertext"]
	ok(http.MethodPost, under("decrypt"), map[string]any{"ciphertext": ciphertext})
	ok(http.MethodPost, under("rewrap"), map[string]any{"ciphertext": ciphertext})
	ok(http.MethodPost, under("encrypt"), map[string]any{"batch_input": []any{map[string]any{"plaintext": "eA==", "reference": "r"}}})
	ok(http.MethodPost, under("datakey/plaintext"), nil)
	ok(http.MethodPost, under("datakey/wrapped"), nil)
}

// everyKV makes the operations of the face of KV version 2 succeed.
func everyKV(tenant string, ok func(method, path string, body any) map[string]any) {
	face := func(part string) string { return "dek/" + part + "/" + tenant + "/secrets/folder/kv" }
	data := map[string]any{"data": map[string]any{"password": "x"}}
	metadata := map[string]any{"custom_metadata": map[string]any{"owner": "billing"}}
	ok(http.MethodPost, face("data"), data)
	ok(http.MethodPatch, face("data"), data)
	ok(http.MethodPost, face("metadata"), metadata)
	ok(http.MethodPatch, face("metadata"), metadata)
	for _, part := range []string{"data", "metadata", "subkeys"} {
		ok(http.MethodGet, face(part), nil)
	}
	ok("LIST", "dek/metadata/"+tenant+"/secrets", nil)
	ok("LIST", "dek/metadata/"+tenant+"/secrets/folder", nil)
	for _, part := range []string{"undelete", "delete", "destroy"} {
		ok(http.MethodPost, face(part), map[string]any{"versions": []int{2}})
	}
	ok(http.MethodDelete, face("data"), nil)
	ok(http.MethodDelete, face("metadata"), nil)
}

// everyRotation makes the operations of rotations succeed, which takes one that is slow
// enough to be found unfinished.
func everyRotation(t *testing.T, s *devstack.Stack, tenant string, ok func(method, path string, body any) map[string]any) {
	t.Helper()
	under := func(rest string) string { return tenantPath(tenant, rest) }
	ok(http.MethodPost, "dek/config", map[string]any{"rotation_parallelism": 1})
	defer ok(http.MethodPost, "dek/config", map[string]any{"rotation_parallelism": 32})
	var items []any
	for i := range 2000 {
		items = append(items, map[string]any{
			"kind": "secrets", "name": fmt.Sprintf("filler/%d", i), "data": map[string]any{"v": strings.Repeat("v", 4000)},
		})
	}
	ok(http.MethodPost, under("items"), map[string]any{"items": items})
	id := ok(http.MethodPost, under("dek/rotate"), map[string]any{"reason": "yearly"})["rotation_id"].(string)
	ok(http.MethodPost, under("dek/rotations/"+id+"/pause"), nil)
	ok("LIST", "dek/rotations", nil)
	ok(http.MethodGet, under("dek/rotations/"+id), nil)
	ok(http.MethodPost, under("dek/rotations/"+id+"/resume"), nil)
	waitRotation(t, s, tenant, id, "completed")
	ok(http.MethodPost, under("dek/versions/1/destroy"), map[string]any{"force": true})
	id = ok(http.MethodPost, under("dek/import"), map[string]any{"ciphertext": wrapped(t, wrappingKey(t, s), random(32))})["rotation_id"].(string)
	waitRotation(t, s, tenant, id, "completed")
	ok(http.MethodGet, under("dek/rotations/"+id), nil)
}

// heldAgainstTheDocument is what call does with each answer of the shared stack's engine.
func heldAgainstTheDocument(t *testing.T, s *devstack.Stack, method, path string, a answer) {
	t.Helper()
	if s != sharedStack || a.Status != http.StatusOK || !strings.HasPrefix(path, "dek/") || a.Body["data"] == nil || a.Body["wrap_info"] != nil {
		return
	}
	documentOf(t).holds(t, method, path, a)
}
