// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package token

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

type (
	// Session is a session's, as the library counts them.
	Session = pkcs11.SessionHandle
	// Handle is an object's, for as long as a session lasts.
	Handle = pkcs11.ObjectHandle
)

// Key is an AES key of a token.
type Key struct {
	Handle Handle
	ID     []byte // CKA_ID
}

// Library is what this package needs of a PKCS#11 library. Its errors are of type
// [pkcs11.Error]. Calls may come from several goroutines, but for Initialize and Finalize.
type Library interface {
	Initialize() error
	Finalize() error
	// Slots returns the slots that have a token.
	Slots() ([]uint, error)
	// Token returns what the token in a slot is called.
	Token(slot uint) (label, serial string, err error)
	// OpenSession opens one that only reads.
	OpenSession(slot uint) (Session, error)
	CloseSession(s Session) error
	CloseAllSessions(slot uint) error
	// Login logs all sessions with the token in.
	Login(s Session, pin string) error
	LoggedIn(s Session) (bool, error)
	// Keys returns the AES keys of a label.
	Keys(s Session, label string) ([]Key, error)
	// Encrypt seals with AES-GCM, and returns the nonce that was used: some tokens take
	// one of their own in place of the caller's.
	Encrypt(s Session, key Handle, nonce, ad, plaintext []byte) (sealed, used []byte, err error)
	Decrypt(s Session, key Handle, nonce, ad, sealed []byte) ([]byte, error)
}

// Load loads a PKCS#11 library. It runs in this process.
func Load(path string) (Library, error) {
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, errors.New("the file is not a PKCS#11 library that can be loaded")
	}
	return cryptoki{ctx}, nil
}

// cryptoki is a Library by its C interface.
type cryptoki struct{ ctx *pkcs11.Ctx }

func (c cryptoki) Initialize() error { return c.ctx.Initialize() }

func (c cryptoki) Finalize() error { return c.ctx.Finalize() }

func (c cryptoki) Slots() ([]uint, error) { return c.ctx.GetSlotList(true) }

func (c cryptoki) Token(slot uint) (label, serial string, err error) {
	info, err := c.ctx.GetTokenInfo(slot)
	return info.Label, info.SerialNumber, err
}

func (c cryptoki) OpenSession(slot uint) (Session, error) {
	return c.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
}

func (c cryptoki) CloseSession(s Session) error { return c.ctx.CloseSession(s) }

func (c cryptoki) CloseAllSessions(slot uint) error { return c.ctx.CloseAllSessions(slot) }

func (c cryptoki) Login(s Session, pin string) error { return c.ctx.Login(s, pkcs11.CKU_USER, pin) }

func (c cryptoki) LoggedIn(s Session) (bool, error) {
	info, err := c.ctx.GetSessionInfo(s)
	return info.State == pkcs11.CKS_RO_USER_FUNCTIONS || info.State == pkcs11.CKS_RW_USER_FUNCTIONS, err
}

// maxKeys bounds the keys of a label.
const maxKeys = 1000

func (c cryptoki) Keys(s Session, label string) (keys []Key, err error) {
	if err := c.ctx.FindObjectsInit(s, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}); err != nil {
		return nil, err
	}
	var handles []Handle
	for {
		found, _, failed := c.ctx.FindObjects(s, maxKeys)
		handles, err = append(handles, found...), failed
		if err != nil || len(found) == 0 || len(handles) > maxKeys {
			break
		}
	}
	if err = errors.Join(err, c.ctx.FindObjectsFinal(s)); err != nil {
		return nil, err
	}
	if len(handles) > maxKeys {
		return nil, fmt.Errorf("there are more than %d keys of the label", maxKeys)
	}
	for _, handle := range handles {
		found, err := c.ctx.GetAttributeValue(s, handle, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, nil)})
		if err != nil {
			return nil, err
		}
		keys = append(keys, Key{Handle: handle, ID: found[0].Value})
	}
	return keys, nil
}

func (c cryptoki) Encrypt(s Session, key Handle, nonce, ad, plaintext []byte) (sealed, used []byte, err error) {
	params := pkcs11.NewGCMParams(nonce, ad, tagSize*8)
	defer params.Free()
	if err := c.ctx.EncryptInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, key); err != nil {
		return nil, nil, err
	}
	sealed, err = c.ctx.Encrypt(s, plaintext)
	return sealed, params.IV(), err
}

func (c cryptoki) Decrypt(s Session, key Handle, nonce, ad, sealed []byte) ([]byte, error) {
	params := pkcs11.NewGCMParams(nonce, ad, tagSize*8)
	defer params.Free()
	if err := c.ctx.DecryptInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, key); err != nil {
		return nil, err
	}
	return c.ctx.Decrypt(s, sealed)
}
