// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package token

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"
)

// connection is a login to the token.
type connection struct {
	slot uint
	// login is a session that nothing else uses: the login ends with a token's last session.
	login Session
	idle  chan Session
}

// take returns a session that is idle, or opens one.
func (c *connection) take(lib Library) (Session, error) {
	select {
	case s := <-c.idle:
		return s, nil
	default:
	}
	s, err := lib.OpenSession(c.slot)
	switch {
	case is(err, pkcs11.CKR_SESSION_COUNT):
		return 0, said("opening a session", err)
	case err != nil:
		return 0, fmt.Errorf("%w: opening a session: %w", errLost, err)
	}
	return s, nil
}

// connect makes a connection, unless there is one other than broken. An attempt that failed
// answers for a second.
func (t *Token) connect(broken *connection) error {
	t.mu.RLock()
	ready := t.conn != nil && t.conn != broken
	t.mu.RUnlock()
	if ready {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return unavailable("the program is ending")
	case t.conn != nil && t.conn != broken:
		return nil
	case t.failure != nil && time.Since(t.failedAt) < retryAfter:
		return t.failure
	}
	t.disconnect()
	was := t.failure
	t.failure = t.reach()
	t.failedAt = time.Now()
	switch {
	case t.failure == nil:
		t.config.Log.Info("logged in to the token")
	case was == nil:
		t.config.Log.Warn("the token cannot be used", "error", t.failure)
	}
	return t.failure
}

// reach opens a connection. What a library knows of slots and tokens may be from when it
// was initialized, so that is done anew once.
func (t *Token) reach() error {
	fresh := !t.initialized
	err := t.open()
	if err == nil || fresh || errors.Is(err, ErrDenied) {
		return err
	}
	t.finalize()
	return t.open()
}

func (t *Token) open() error {
	if !t.initialized {
		if err := t.lib.Initialize(); err != nil {
			return said("initializing the library", err)
		}
		t.initialized = true
	}
	slot, err := t.find()
	if err != nil {
		return err
	}
	s, err := t.lib.OpenSession(slot)
	if err != nil {
		return said("opening a session", err)
	}
	if err := t.logIn(s); err != nil {
		_ = t.lib.CloseAllSessions(slot)
		return err
	}
	t.conn = &connection{slot: slot, login: s, idle: make(chan Session, t.config.Sessions)}
	return nil
}

// find returns the slot of the token.
func (t *Token) find() (uint, error) {
	slots, err := t.lib.Slots()
	if err != nil {
		return 0, said("listing slots", err)
	}
	var found []uint
	for _, slot := range slots {
		if there, err := t.isAt(slot); err == nil && there {
			found = append(found, slot)
		}
	}
	switch len(found) {
	case 0:
		return 0, unavailable("there is no token of -token-label and -token-serial in the slots of the library, which has %d tokens", len(slots))
	case 1:
		return found[0], nil
	}
	return 0, unavailable("%d tokens have the label of -token-label: name one with -token-serial", len(found))
}

// isAt reports whether the token is in a slot.
func (t *Token) isAt(slot uint) (bool, error) {
	label, serial, err := t.lib.Token(slot)
	return (t.config.TokenLabel == "" || t.config.TokenLabel == label) &&
		(t.config.TokenSerial == "" || t.config.TokenSerial == serial), err
}

func (t *Token) logIn(s Session) error {
	pin, err := t.config.PIN()
	if err != nil {
		return unavailable("%s", err)
	}
	defer clear(pin)
	hash := sha256.Sum256(pin)
	if t.refused != nil && *t.refused == hash {
		return fmt.Errorf("%w: the token has refused this PIN, which is not tried again until it changes or SIGHUP comes", ErrDenied)
	}
	err = t.lib.Login(s, string(pin))
	if is(err, refusedPIN...) {
		t.refused = &hash
	}
	if err != nil && !is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		return said("logging in", err)
	}
	return nil
}

func (t *Token) disconnect() {
	if t.conn != nil {
		_ = t.lib.CloseAllSessions(t.conn.slot)
		t.conn = nil
	}
}

func (t *Token) finalize() {
	if t.initialized {
		_ = t.lib.Finalize()
		t.initialized = false
	}
}
