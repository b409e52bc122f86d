// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package token_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/cmd/dek-kms-pkcs11/internal/token"
)

const keyLabel = "dek kek"

// fakeKey is an AES key. Two of the same material open each other's ciphertexts.
type fakeKey struct {
	label    string
	id       []byte
	material byte
	disabled bool
}

// library is a PKCS#11 library with one token, for what SoftHSM does not do.
type library struct {
	mu          sync.Mutex
	initialized int // how often
	slot        uint
	listed      uint // the slot that it lists: as it was when it was initialized
	present     bool
	pin         string
	locked      bool
	logins      int // attempts
	loggedIn    bool
	sessions    map[token.Session]bool
	opened      int // sessions, ever
	inUse       int // calls that encrypt, now
	mostInUse   int
	keys        []fakeKey
	fail        map[string]error // answers of calls, by their names
	hang        chan struct{}    // Encrypt waits until it is closed
	nonce       []byte           // that the token takes in place of the caller's
}

func newLibrary(ids ...byte) *library {
	l := &library{slot: 7, present: true, pin: "1234", sessions: map[token.Session]bool{}, fail: map[string]error{}}
	for _, id := range ids {
		l.keys = append(l.keys, fakeKey{label: keyLabel, id: []byte{id}, material: id})
	}
	return l
}

// change does something to the token while no call runs.
func (l *library) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *library) call(name string) error {
	if err := l.fail[name]; err != nil {
		return err
	}
	if l.initialized == 0 {
		return pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
	}
	return nil
}

func (l *library) inSession(name string, s token.Session) error {
	if err := l.call(name); err != nil {
		return err
	}
	if !l.sessions[s] {
		return pkcs11.Error(pkcs11.CKR_SESSION_HANDLE_INVALID)
	}
	return nil
}

func (l *library) Initialize() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.initialized++
	l.listed = l.slot
	return l.fail["Initialize"]
}

func (l *library) Finalize() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.sessions)
	l.loggedIn = false
	return nil
}

func (l *library) Slots() ([]uint, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.present {
		return nil, l.call("Slots")
	}
	return []uint{l.listed}, l.call("Slots")
}

func (l *library) Token(slot uint) (label, serial string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.present || slot != l.slot {
		return "", "", pkcs11.Error(pkcs11.CKR_TOKEN_NOT_PRESENT)
	}
	return "token", "0001", l.call("Token")
}

func (l *library) OpenSession(slot uint) (token.Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.present || slot != l.slot {
		return 0, pkcs11.Error(pkcs11.CKR_SLOT_ID_INVALID)
	}
	if err := l.call("OpenSession"); err != nil {
		return 0, err
	}
	l.opened++
	s := token.Session(l.opened)
	l.sessions[s] = true
	return s, nil
}

func (l *library) CloseSession(s token.Session) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sessions, s)
	l.loggedIn = l.loggedIn && len(l.sessions) > 0
	return nil
}

func (l *library) CloseAllSessions(uint) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.sessions)
	l.loggedIn = false
	return nil
}

func (l *library) Login(s token.Session, pin string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.inSession("Login", s); err != nil {
		return err
	}
	l.logins++
	switch {
	case l.locked:
		return pkcs11.Error(pkcs11.CKR_PIN_LOCKED)
	case pin != l.pin:
		return pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)
	}
	l.loggedIn = true
	return nil
}

func (l *library) LoggedIn(s token.Session) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loggedIn, l.inSession("LoggedIn", s)
}

func (l *library) Keys(s token.Session, label string) (keys []token.Key, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.inSession("Keys", s); err != nil {
		return nil, err
	}
	for i, key := range l.keys {
		if l.loggedIn && l.present && key.label == label {
			keys = append(keys, token.Key{Handle: token.Handle(i), ID: key.id})
		}
	}
	return keys, nil
}

func (l *library) aead(name string, s token.Session, key token.Handle) (cipher.AEAD, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.inSession(name, s); err != nil {
		return nil, err
	}
	if l.keys[key].disabled {
		return nil, pkcs11.Error(pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED)
	}
	block, err := aes.NewCipher(bytes.Repeat([]byte{l.keys[key].material}, 32))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (l *library) Encrypt(s token.Session, key token.Handle, nonce, ad, plaintext []byte) (sealed, used []byte, err error) {
	aead, err := l.aead("Encrypt", s, key)
	if err != nil {
		return nil, nil, err
	}
	l.change(func() {
		l.inUse++
		l.mostInUse = max(l.mostInUse, l.inUse)
	})
	defer l.change(func() { l.inUse-- })
	if l.hang != nil {
		<-l.hang
	}
	if l.nonce != nil {
		nonce = l.nonce
	}
	if len(nonce) != aead.NonceSize() {
		return make([]byte, len(plaintext)+16), nonce, nil
	}
	return aead.Seal(nil, nonce, plaintext, ad), nonce, nil
}

func (l *library) Decrypt(s token.Session, key token.Handle, nonce, ad, sealed []byte) ([]byte, error) {
	aead, err := l.aead("Decrypt", s, key)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nonce, sealed, ad)
	if err != nil {
		return nil, pkcs11.Error(pkcs11.CKR_ENCRYPTED_DATA_INVALID)
	}
	return plaintext, nil
}

// use returns a Token on a library, with the PIN of its own and what is changed of that.
func use(t *testing.T, l *library, change func(*token.Config)) *token.Token {
	t.Helper()
	c := token.Config{
		TokenLabel: "token", KeyLabel: keyLabel, Sessions: 2, Log: slog.New(slog.DiscardHandler),
		PIN:  func() ([]byte, error) { return []byte("1234"), nil },
		Hung: func() { t.Error("a call hung") },
	}
	if change != nil {
		change(&c)
	}
	return token.New(l, c)
}

// works checks that a Token encrypts and decrypts, and returns the key_id.
func works(t *testing.T, k *token.Token) string {
	t.Helper()
	sealed, err := k.Encrypt(t.Context(), []byte("plaintext"))
	require.NoError(t, err)
	opens(t, k, sealed)
	id, err := k.KeyID(t.Context())
	require.NoError(t, err)
	require.Equal(t, sealed.KeyID, id)
	return id
}

func opens(t *testing.T, k *token.Token, sealed token.Sealed) {
	t.Helper()
	plaintext, err := k.Decrypt(t.Context(), sealed)
	require.NoError(t, err)
	require.Equal(t, "plaintext", string(plaintext))
}

func (l *library) remove(id byte) (removed []fakeKey) {
	l.change(func() {
		kept := slices.Clone(l.keys)
		l.keys, removed = nil, nil
		for _, key := range kept {
			if bytes.Equal(key.id, []byte{id}) {
				removed = append(removed, key)
			} else {
				l.keys = append(l.keys, key)
			}
		}
	})
	return removed
}
