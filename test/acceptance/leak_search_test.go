// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// markers are texts to search for, and what each stands for. They are random
// letters and digits, which no encoding of text changes, so that whatever
// surrounds them may be escaped as it likes.
type markers map[string]string

// window is how many bytes of a pattern are looked up: no form is shorter.
const window = 8

// index finds markers in one pass, by the first bytes of each of their forms.
type index map[[window]byte][]pattern

type pattern struct {
	class, form string
	bytes       []byte
}

func (m markers) index() index {
	all := index{}
	for text, class := range m {
		for form, written := range forms(text) {
			start := [window]byte(written)
			all[start] = append(all[start], pattern{class, form, written})
		}
	}
	return all
}

// found is what was found where: "value in vault.log as hex", say. A marker's
// text is not in it, since some of them are secrets that live.
type found map[string]bool

func (f found) list() []string { return slices.Sorted(maps.Keys(f)) }

// search looks for every marker in every form.
func (x index) search(where string, content []byte, into found) {
	for at := range len(content) - window + 1 {
		for _, p := range x[[window]byte(content[at:])] {
			if bytes.HasPrefix(content[at:], p.bytes) {
				into[p.class+" in "+where+p.form] = true
			}
		}
	}
}

// forms are the ways in which a text may be written.
func forms(text string) map[string][]byte {
	var escaped strings.Builder
	for _, c := range []byte(text) {
		fmt.Fprintf(&escaped, `\u%04x`, c)
	}
	all := map[string][]byte{
		"": []byte(text), " as JSON escapes": []byte(escaped.String()),
		" as hex": []byte(hex.EncodeToString([]byte(text))), " as HEX": []byte(strings.ToUpper(hex.EncodeToString([]byte(text)))),
	}
	for before := range 3 {
		for name, encoding := range map[string]*base64.Encoding{" as base64": base64.RawStdEncoding, " as base64url": base64.RawURLEncoding} {
			all[fmt.Sprintf("%s, shifted by %d", name, before)] = inside(encoding, text, before)
		}
	}
	if lower := strings.ToLower(text); lower != text {
		all[" in lower case"] = []byte(lower)
	}
	return all
}

// inside is how a text looks in the base64 of something longer, so many bytes
// from the beginning of a group of three: without the characters that it shares
// with its neighbours.
func inside(encoding *base64.Encoding, text string, before int) []byte {
	encoded := encoding.EncodeToString(append(make([]byte, before), text...))
	return []byte(encoded[(before*8+5)/6 : (before+len(text))*8/6])
}

// markedBoolean is the field of the booleans to be looked for: a true is like any
// other.
const markedBoolean = "marked_boolean"

// searchJSON looks for every marker in the strings, numbers and names of fields
// of a JSON document, and says where: "name in request.path", or "field in a key
// of request.data".
func (x index) searchJSON(document []byte, into found) error {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return err
	}
	x.walk("", v, into)
	return nil
}

func (x index) walk(place string, v any, into found) {
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			hits := found{}
			x.search("a key of "+place, []byte(key), hits)
			maps.Copy(into, hits)
			if len(hits) > 0 {
				key = "*" // chosen by a caller
			}
			x.walk(strings.TrimPrefix(place+"."+key, "."), below, into)
		}
	case []any:
		for _, below := range v {
			x.walk(place+"[]", below, into)
		}
	case string:
		x.search(place, []byte(v), into)
	case json.Number:
		x.search(place, []byte(v), into)
	case bool:
		if strings.HasSuffix(place, "."+markedBoolean) {
			into["boolean in "+place] = true
		}
	}
}

// unpacked is the content of a snapshot: the files of a tar.gz.
func unpacked(snapshot []byte) (map[string][]byte, error) {
	zipped, err := gzip.NewReader(bytes.NewReader(snapshot))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	archive := tar.NewReader(zipped)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil { // a test's own snapshot
			return nil, err
		}
	}
}

// TestLeakSearch plants markers, in every form and at every offset.
func TestLeakSearch(t *testing.T) {
	const text = "K7QX2MZP4WNA9RTB5DCE8VYH3J"
	m := markers{text: "value"}.index()
	quoted, err := json.Marshal(map[string]string{"k": `"` + text + "<\u00e9\n"})
	require.NoError(t, err)
	planted := [][]byte{
		[]byte("before " + text + " after"), []byte(strings.ToLower(text)), quoted,
		[]byte(hex.EncodeToString([]byte("x" + text + "y"))), []byte(strings.ToUpper(hex.EncodeToString([]byte(text)))),
		[]byte(`\u004b\u0037\u0051\u0058\u0032\u004d\u005a\u0050\u0034\u0057\u004e\u0041\u0039\u0052\u0054\u0042\u0035\u0044\u0043\u0045\u0038\u0056\u0059\u0048\u0033\u004a`),
	}
	for before := range 7 {
		blob := []byte(strings.Repeat("~", before) + text + "~~~~")
		planted = append(planted, []byte(base64.StdEncoding.EncodeToString(blob)), []byte(base64.URLEncoding.EncodeToString(blob)))
	}
	for _, content := range planted {
		hits := found{}
		m.search("a file", content, hits)
		assert.NotEmpty(t, hits, "%s", content)
	}
	for _, content := range []string{"", text[1:], "K7QX2MZP4WNA9RTB5DCE8VYH3", base64.StdEncoding.EncodeToString([]byte(text[2:]))} {
		hits := found{}
		m.search("a file", []byte(content), hits)
		assert.Empty(t, hits, content)
	}
}

// TestLeakSearchInJSON plants markers in a document like those of an audit log.
func TestLeakSearchInJSON(t *testing.T) {
	m := markers{"SECRET7VALUE": "value", "SECRET7FIELD": "field", "8153027464091": "number"}.index()
	hits := found{}
	require.NoError(t, m.searchJSON([]byte(`{
		"request": {"path": "dek/SECRET7VALUE", "data": {"data": {"SECRET7FIELD": {"x": 8153027464091}}}},
		"auth": {"policies": ["a", "SECRET7VALUE"], "marked_boolean": false}, "error": "sec\u0052et7value \u0053ECRET7VALUE"
	}`), hits))
	assert.Equal(t, []string{
		"boolean in auth.marked_boolean", "field in a key of request.data.data", "number in request.data.data.*.x",
		"value in auth.policies[]", "value in error", "value in request.path",
	}, hits.list())
	assert.Error(t, m.searchJSON([]byte(`{"request"`), hits))
}
