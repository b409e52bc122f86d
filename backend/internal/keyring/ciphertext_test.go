// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCiphertextReadsBack(t *testing.T) {
	for text, want := range map[string]Ciphertext{
		"dek:v1:":              {1, []byte{}},
		"dek:v1:AA==":          {1, []byte{0}},
		"dek:v2:AAE=":          {2, []byte{0, 1}},
		"dek:v10:AAEC":         {10, []byte{0, 1, 2}},
		"dek:v2147483647:+/8=": {1<<31 - 1, []byte{0xfb, 0xff}},
	} {
		got, err := ParseCiphertext(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		require.Equal(t, text, got.String())
	}
}

// malformed are texts that are close to a ciphertext.
var malformed = map[string]string{
	"empty":                      "",
	"no prefix":                  "AAECAwQF",
	"transit's prefix":           "vault:v1:AAEC",
	"capitals":                   "DEK:v1:AAEC",
	"a capital V":                "dek:V1:AAEC",
	"no v":                       "dek:1:AAEC",
	"no version":                 "dek:v:AAEC",
	"no second colon":            "dek:v1AAEC",
	"only the prefix":            "dek:v",
	"version 0":                  "dek:v0:AAEC",
	"leading zero":               "dek:v01:AAEC",
	"plus sign":                  "dek:v+1:AAEC",
	"minus sign":                 "dek:v-1:AAEC",
	"space before":               " dek:v1:AAEC",
	"space in the version":       "dek:v 1:AAEC",
	"underscore":                 "dek:v1_0:AAEC",
	"hexadecimal":                "dek:v0x1:AAEC",
	"exponent":                   "dek:v1e1:AAEC",
	"Arabic digit":               "dek:v\u0661:AAEC",
	"fullwidth digit":            "dek:v\uff11:AAEC",
	"beyond 31 bits":             "dek:v2147483648:AAEC",
	"beyond 64 bits":             "dek:v18446744073709551617:AAEC",
	"very long version":          "dek:v" + strings.Repeat("9", 1000) + ":AAEC",
	"third colon":                "dek:v1:AAEC:",
	"text behind":                "dek:v1:AAEC dek:v1:AAEC",
	"rubbish":                    "dek:v1:!!!!",
	"no padding":                 "dek:v1:AA",
	"too much padding":           "dek:v1:AAEC====",
	"padding in between":         "dek:v1:AA==AAEC",
	"bits behind the last byte":  "dek:v1:AB==",
	"URL alphabet":               "dek:v1:-_8=",
	"line feed":                  "dek:v1:AA\nEC",
	"carriage return":            "dek:v1:AA\rEC",
	"line break at the end":      "dek:v1:AAEC\n",
	"line break in the padding":  "dek:v1:AA=\n=",
	"line break in the version":  "dek:v1\n:AAEC",
	"space in base64":            "dek:v1:AA EC",
	"tab in base64":              "dek:v1:AA\tEC",
	"zero byte":                  "dek:v1:AAEC\x00",
	"not UTF-8":                  "dek:v1:\xff\xfe",
	"a letter that looks like v": "dek:\u03bd1:AAEC",
}

func TestMalformedCiphertextIsRefused(t *testing.T) {
	for name, text := range malformed {
		c, err := ParseCiphertext(text)
		require.ErrorIs(t, err, ErrCiphertext, name)
		require.Zero(t, c, name)
	}
}

func TestParseVersion(t *testing.T) {
	for s, want := range map[string]int{"1": 1, "10": 10, "2147483647": 1<<31 - 1} {
		got, err := ParseVersion(s)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, s := range []string{"", "0", "01", "+1", "-1", "1.0", " 1", "1 ", "2147483648", "99999999999999999999", "\u0661", "one"} {
		_, err := ParseVersion(s)
		require.ErrorIs(t, err, ErrVersion, "%q", s)
	}
}

func TestCiphertextADTellsPartsApart(t *testing.T) {
	seen := map[string]bool{}
	for _, parts := range [][4]string{
		{"t", "i", "k", ""},
		{"t", "i", "", "k"},
		{"ti", "", "k", ""},
		{"t", "i", "k", "a"},
		{"t", "i", "ka", ""},
		{"t", "i", "k", "\x00\x00\x00\x01a"},
		{"u", "i", "k", ""},
		{"t", "j", "k", ""},
		{"t", "i", "l", ""},
	} {
		ad := string(CiphertextAD(parts[0], parts[1], parts[2], []byte(parts[3])))
		require.False(t, seen[ad], "%q", parts)
		seen[ad] = true
	}
	require.Equal(t, CiphertextAD("t", "i", "k", nil), CiphertextAD("t", "i", "k", []byte{}))
}

// What parses is the one text of its ciphertext: else a ciphertext could be
// changed without its authentication telling.
func FuzzParseCiphertext(f *testing.F) {
	for _, text := range malformed {
		f.Add(text)
	}
	f.Add("dek:v1:AAEC")
	f.Add("dek:v2147483647:+/8=")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCiphertext(text)
		if err != nil {
			require.ErrorIs(t, err, ErrCiphertext)
			return
		}
		require.Equal(t, text, c.String())
		require.Positive(t, c.Version)
	})
}
