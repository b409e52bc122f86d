// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

// DataKeyAEAD returns the AEAD that seals the contents of envelopes under a data key:
// XAES-256-GCM, for every key type of the tenant. It copies key, which has [KeySize]
// bytes.
func DataKeyAEAD(key []byte) (AEAD, error) { return NewAEAD(XAES256GCM, key) }

// SealEnvelope seals plaintext under a data key, which is what key opens to when
// the associated data are [EnvelopeKeyAD]. Callers do the same in their own
// processes:
//
//	dek:v<version>:e1.<key>.<sealed>
//
// <version> and <key> are those of "dek:v<version>:<key>", which datakey answered.
// <sealed> is base64 (standard, padded) of 24 bytes of random nonce, the ciphertext
// and 16 bytes of tag, by https://c2sp.org/XAES-256-GCM. Its associated data are the
// list of [AssociatedData] of "vault-plugin-dek/envelope/v1", "dek:v<version>:<key>"
// and the caller's; those are empty if there are none. The content is so bound to
// the very text of its data key: to bring an envelope to another version, it is
// opened and sealed anew.
func SealEnvelope(dataKey AEAD, key Ciphertext, plaintext, callers []byte) (Text, error) {
	content, err := dataKey.Seal(plaintext, envelopeAD(key, callers))
	return Text{FormEnvelope, key, content}, err
}

// OpenEnvelope opens the content of an envelope. It fails with [ErrOpen].
func OpenEnvelope(dataKey AEAD, t Text, callers []byte) ([]byte, error) {
	return dataKey.Open(t.Content, envelopeAD(t.Ciphertext, callers))
}

func envelopeAD(key Ciphertext, callers []byte) []byte {
	return AssociatedData("vault-plugin-dek/envelope/v1", key.String(), string(callers))
}
