// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/localkmstest"
)

// withdrawalLimit is a lease of ten seconds, and one second.
const withdrawalLimit = 11 * time.Second

// awsCrowd is tenants whose keys are under keys of AWS KMS: the first ones have a key each, the
// others are beneath the mount's KEK.
type awsCrowd struct {
	*crowd
	kms       *localkmstest.Emulator
	providers []string // of the tenants, by their places
	keys      map[string]string
}

func (f *awsCrowd) body(provider string) map[string]any {
	return map[string]any{
		"type": "awskms", "lease": "10s", "timeout": "3s", "parameters": map[string]any{
			"endpoint": f.kms.Endpoint(), "region": localkmstest.Region, "kms_key_id": f.keys[provider],
			"access_key": "AKIAEXAMPLE", "secret_key": "secret",
		},
	}
}

func (f *awsCrowd) write(t *testing.T, provider string, more map[string]any) answer {
	t.Helper()
	body := f.body(provider)
	maps.Copy(body, more)
	return callRoot(t, f.s, http.MethodPut, f.mount+"/providers/"+provider, body)
}

func (f *awsCrowd) provider(t *testing.T, name string) map[string]any {
	t.Helper()
	return succeeded(t, callRoot(t, f.s, http.MethodGet, f.mount+"/providers/"+name, nil))
}

// move moves a tenant's keys, and waits until that is over.
func (f *awsCrowd) move(t *testing.T, i int, under string) (kek map[string]any) {
	t.Helper()
	succeeded(t, f.call(t, i, http.MethodPut, "/kek/rotate", map[string]any{"provider": under}))
	require.Eventually(t, func() bool {
		kek = succeeded(t, f.call(t, i, http.MethodGet, "/kek", nil))
		return kek["status"] == "completed"
	}, rotationLimit, rotationTick)
	require.Equal(t, []any{under, 0.0}, []any{kek["provider"], kek["keys_failed"]})
	return kek
}

func (f *awsCrowd) moveMount(t *testing.T, under string) {
	t.Helper()
	succeeded(t, callRoot(t, f.s, http.MethodPut, f.mount+"/kek/rotate", map[string]any{"provider": under}))
	kek := f.untilKEK(t, "completed")
	require.Equal(t, []any{under, 0.0}, []any{kek["provider"], kek["keys_failed"]})
}

// until waits until reads of a tenant get an answer, and returns how long after since the last
// one began that got another.
func (f *awsCrowd) until(t *testing.T, i, status int, since time.Time) time.Duration {
	t.Helper()
	var last time.Duration
	require.Eventually(t, func() bool {
		began := time.Since(since)
		if f.call(t, i, http.MethodGet, "/secrets/own", nil).Status == status {
			return true
		}
		last = began
		return false
	}, time.Minute, 50*time.Millisecond, "tenant %d: status %d", i, status)
	return last
}

// untilAll is until for several tenants at once.
func (f *awsCrowd) untilAll(t *testing.T, what string, status int, tenants ...int) {
	t.Helper()
	since := time.Now()
	var all sync.WaitGroup
	for _, i := range tenants {
		all.Go(func() {
			after := f.until(t, i, status, since)
			t.Logf("%s: tenant under %q has %d from %.1f s on", what, f.providers[i], status, after.Seconds())
			assert.Less(t, after, withdrawalLimit, what)
		})
	}
	all.Wait()
}

// use has tenants read, write, encrypt and decrypt, until it is stopped. What fails is lost.
func (f *awsCrowd) use(t *testing.T, tenants ...int) (stop func(what string)) {
	var served, lost atomic.Int64
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, i := range tenants {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				case <-time.After(5 * time.Millisecond):
				}
				for _, a := range []answer{
					f.call(t, i, http.MethodPut, "/secrets/beside", map[string]any{"data": map[string]any{"n": n}}),
					f.call(t, i, http.MethodGet, "/secrets/beside", nil),
					f.call(t, i, http.MethodPut, "/encrypt", map[string]any{"plaintext": "eA=="}),
					f.call(t, i, http.MethodPut, "/decrypt", map[string]any{"ciphertext": f.ciphertexts[i]}),
				} {
					served.Add(1)
					if a.Status != http.StatusOK {
						lost.Add(1)
					}
				}
			}
		})
	}
	return func(what string) {
		t.Helper()
		close(done)
		all.Wait()
		t.Logf("%s: %d requests of others, %d lost", what, served.Load(), lost.Load())
		assert.Positive(t, served.Load())
		assert.Zero(t, lost.Load(), what)
	}
}

// TestAWSKMS has the KEK of a mount, and those of three tenants, under keys of an emulator of
// AWS KMS, whose owners take them back in each way that the emulator has.
func TestAWSKMS(t *testing.T) {
	t.Parallel() // it waits for leases
	s := shared(t)
	kms, rotating := localkmstest.New(t, time.Now().Add(45*time.Second)) // by then the mount is to be under it
	mount := withMount(t, s)
	f := &awsCrowd{newCrowd(t, s, mount, 5), kms, []string{"disabled", "deleted", "graced", "mount", "mount"}, map[string]string{"mount": rotating}}
	for _, name := range []string{"disabled", "deleted", "graced", "next"} {
		f.keys[name] = kms.CreateKey(nil)
	}
	f.refusesOtherKeys(t)
	succeeded(t, f.write(t, "mount", map[string]any{"mount": true}))
	f.moveMount(t, "mount")
	for i, name := range f.providers[:3] {
		more := map[string]any{"tenants": []string{f.ids[i]}}
		if name == "graced" {
			more["grace"] = "1h"
		}
		succeeded(t, f.write(t, name, more))
		f.bindsTo(t, i, f.move(t, i, name))
	}
	f.opens(t)
	for i := range f.ids {
		succeeded(t, f.call(t, i, http.MethodPut, "/dek/rotate", nil))
	}

	stop := f.use(t, 2, 3, 4)
	kms.Must("DisableKey", map[string]any{"KeyId": f.keys["disabled"]})
	kms.Must("ScheduleKeyDeletion", map[string]any{"KeyId": f.keys["deleted"], "PendingWindowInDays": 7})
	f.untilAll(t, "taken back", http.StatusFailedDependency, 0, 1)
	for i, said := range []string{"DisabledException", "pending deletion"} {
		f.denied(t, i, said)
	}
	kms.Must("EnableKey", map[string]any{"KeyId": f.keys["disabled"]})
	kms.Must("CancelKeyDeletion", map[string]any{"KeyId": f.keys["deleted"]})
	kms.Must("EnableKey", map[string]any{"KeyId": f.keys["deleted"]}) // AWS leaves it disabled
	f.untilAll(t, "given back", http.StatusOK, 0, 1)
	stop("taken back and given back")
	f.opens(t)

	stop = f.use(t, 2)
	kms.Stop()
	f.untilAll(t, "ended", http.StatusServiceUnavailable, 0, 1, 3, 4)
	for _, name := range []string{"disabled", "graced", "mount"} {
		got := f.provider(t, name)
		assert.Equal(t, "unavailable", got["state"], name)
		assert.Contains(t, got["last_error"], "out of reach", name)
	}
	kms.Start()
	f.untilAll(t, "started again", http.StatusOK, 0, 1, 3, 4)
	stop("ended and started again")
	f.opens(t)

	f.rotates(t)
	f.changesTheKey(t)
	for i := range 3 {
		f.move(t, i, "")
	}
	f.moveMount(t, "")
	f.opens(t)
	for name := range f.keys {
		a := callRoot(t, s, http.MethodDelete, mount+"/providers/"+name, nil)
		require.Equal(t, http.StatusNoContent, a.Status, a.errors())
	}
}

// refusesOtherKeys tries keys that do not do.
func (f *awsCrowd) refusesOtherKeys(t *testing.T) {
	t.Helper()
	for key, said := range map[string]string{
		localkmstest.ARN("00000000-0000-4000-8000-000000000000"):                                  "NotFoundException",
		f.kms.CreateKey(map[string]any{"Origin": "EXTERNAL"}):                                     "pending import",
		f.kms.CreateKey(map[string]any{"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}):    "InvalidKeyUsageException",
		f.kms.CreateKey(map[string]any{"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}): "InternalFailureException",
		"alias/nobody": "NotFoundException",
	} {
		f.keys["other"] = key
		refused(t, f.write(t, "other", nil), http.StatusBadRequest, said, "nothing has changed")
	}
	delete(f.keys, "other")
}

// bindsTo checks that what a tenant's key has wrapped opens with the tenant's encryption
// context alone, and beneath that key alone.
func (f *awsCrowd) bindsTo(t *testing.T, i int, kek map[string]any) {
	t.Helper()
	key := f.keys[f.providers[i]]
	var wrapped localkmstest.Call
	for _, call := range f.kms.Calls("Encrypt", key) {
		if where, _ := call.In["EncryptionContext"].(map[string]any); where["dek_kek"] == kek["kek_id"] {
			wrapped = call
		}
	}
	where, _ := wrapped.In["EncryptionContext"].(map[string]any)
	require.Equal(t, f.ids[i], where["dek_tenant"], "%v", where)
	require.NotEmpty(t, where["dek_incarnation"])
	opens := func(key string, other map[string]any) localkmstest.Call {
		in := map[string]any{"KeyId": key, "CiphertextBlob": wrapped.Out["CiphertextBlob"], "EncryptionContext": maps.Clone(where)}
		maps.Copy(in["EncryptionContext"].(map[string]any), other)
		return f.kms.Call("Decrypt", in)
	}
	require.Equal(t, http.StatusOK, opens(key, nil).Status)
	for name, done := range map[string]localkmstest.Call{
		"another tenant":      opens(key, map[string]any{"dek_tenant": f.ids[3]}),
		"another incarnation": opens(key, map[string]any{"dek_incarnation": "1"}),
		"another KEK":         opens(key, map[string]any{"dek_kek": "tkek-1"}),
		"more":                opens(key, map[string]any{"x": "y"}),
		"another key":         opens(f.keys["next"], nil),
	} {
		require.Equal(t, "InvalidCiphertextException", done.Out["__type"], name)
	}
}

// denied checks what a tenant is told whose key was taken back.
func (f *awsCrowd) denied(t *testing.T, i int, said string) {
	t.Helper()
	name := f.providers[i]
	for path, body := range map[string]map[string]any{
		"/encrypt": {"plaintext": "eA=="}, "/decrypt": {"ciphertext": f.ciphertexts[i]}, "/secrets/own": {"data": map[string]any{"v": "2"}},
		"/dek/rotate": nil, "/kek/rotate": {"provider": ""},
	} {
		refused(t, f.call(t, i, http.MethodPut, path, body), http.StatusFailedDependency, name)
	}
	got := f.provider(t, name)
	assert.Equal(t, "denied", got["state"], name)
	assert.Contains(t, got["last_error"], said, name)
}

// rotates checks that a KEK opens that older material of a key has wrapped, and that a new one
// is wrapped by the newest.
func (f *awsCrowd) rotates(t *testing.T) {
	t.Helper()
	key := f.keys["mount"]
	version := func(blob any) uint32 { // the emulator's form: length, ARN, version
		text, _ := blob.(string)
		raw, err := base64.StdEncoding.DecodeString(text)
		require.NoError(t, err)
		require.Greater(t, len(raw), len(key)+5)
		return binary.LittleEndian.Uint32(raw[len(key)+1:])
	}
	wrapped := func() uint32 { // of the KEK that was wrapped last
		all := f.kms.Calls("Encrypt", key)
		return version(all[len(all)-1].Out["CiphertextBlob"])
	}
	require.Zero(t, wrapped(), "the KEK was wrapped before")
	require.Eventually(t, func() bool {
		out := f.kms.Must("Encrypt", map[string]any{"KeyId": key, "Plaintext": "eA=="})
		return version(out["CiphertextBlob"]) == 1
	}, time.Minute, 50*time.Millisecond)
	before := len(f.kms.Calls("Decrypt", key))
	succeeded(t, f.write(t, "mount", nil)) // tries what is under it
	versions := map[string]bool{}
	for _, call := range f.kms.Calls("Decrypt", key)[before:] {
		versions[fmt.Sprint(version(call.In["CiphertextBlob"]), call.Status)] = true
	}
	require.Equal(t, map[string]bool{"0 200": true, "1 200": true}, versions, "the KEK, and the probe")
	f.moveMount(t, "mount")
	require.EqualValues(t, 1, wrapped())
	f.opens(t)
}

// changesTheKey moves a tenant's keys to another key of the owner's, and has the old one go.
func (f *awsCrowd) changesTheKey(t *testing.T) {
	t.Helper()
	succeeded(t, f.write(t, "next", map[string]any{"tenants": []string{f.ids[0]}}))
	f.move(t, 0, "next")
	f.kms.Must("ScheduleKeyDeletion", map[string]any{"KeyId": f.keys["disabled"]})
	got := succeeded(t, callRoot(t, f.s, http.MethodPut, f.mount+"/providers/disabled/check", nil))
	require.Equal(t, []any{"denied", 0.0}, []any{got["state"], got["in_use"]})
	f.opens(t)
}
