// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// Form tells what follows the version in a text that callers keep.
type Form string

// The forms of a text. All begin with "dek:v<version>:", so a query finds the texts
// on an old version.
const (
	// FormCiphertext is a ciphertext of the engine: dek:v<version>:<base64>.
	FormCiphertext Form = ""
	// FormEnvelope is an envelope, which a caller sealed under a data key:
	// dek:v<version>:e1.<key>.<sealed>. See [SealEnvelope].
	FormEnvelope Form = "e1"
	// FormFile is the first line of a file that a caller encrypted under a data key:
	// dek:v<version>:s1.<key>. The rest of the file never comes here.
	FormFile Form = "s1"
)

// Data keys for envelopes and files are made by datakey with these associated data,
// have 256 bits, and open with the same only. encrypt refuses both, so nothing that
// a caller chose passes for a data key.
const (
	EnvelopeKeyAD = "vault-plugin-dek/data-key/v1"
	FileKeyAD     = "vault-plugin-dek/file-key/v1"
)

// IsReserved reports whether only data keys are sealed with these associated data.
func IsReserved(associatedData []byte) bool {
	return string(associatedData) == EnvelopeKeyAD || string(associatedData) == FileKeyAD
}

// Text is a parsed text that a caller keeps, in one of the forms.
type Text struct {
	Form Form
	// Ciphertext was sealed by the engine: the text itself, or the data key.
	Ciphertext Ciphertext
	// Content was sealed by an envelope's data key; other forms have none.
	Content []byte
}

// ParseText reads a text. There is one spelling of each: what parses is what String
// returns. It fails with [ErrCiphertext].
func ParseText(s string) (Text, error) {
	version, body, err := splitVersion(s)
	if err != nil {
		return Text{}, err
	}
	// Base64 has no dot.
	form, rest, dotted := strings.Cut(body, ".")
	if !dotted {
		c, err := ParseCiphertext(s)
		return Text{Ciphertext: c}, err
	}
	t := Text{Form: Form(form)}
	key := rest
	switch t.Form {
	case FormEnvelope:
		var content string
		if key, content, dotted = strings.Cut(rest, "."); !dotted {
			return Text{}, fmt.Errorf("%w: an envelope has a key and, after a dot, what it seals", ErrCiphertext)
		}
		if t.Content, err = DecodeBase64(content); err != nil {
			return Text{}, fmt.Errorf("%w: what its data key seals is %w", ErrCiphertext, err)
		}
	case FormFile:
	default:
		return Text{}, fmt.Errorf("%w: what follows the version is of no known form", ErrCiphertext)
	}
	if t.Ciphertext.Sealed, err = DecodeBase64(key); err != nil {
		return Text{}, fmt.Errorf("%w: its data key is %w", ErrCiphertext, err)
	}
	t.Ciphertext.Version = version
	return t, nil
}

// String is the reverse of ParseText.
func (t Text) String() string {
	if t.Form == FormCiphertext {
		return t.Ciphertext.String()
	}
	text := versionPrefix(t.Ciphertext.Version) + string(t.Form) + "." + base64.StdEncoding.EncodeToString(t.Ciphertext.Sealed)
	if t.Form == FormEnvelope {
		text += "." + base64.StdEncoding.EncodeToString(t.Content)
	}
	return text
}
