// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client/clienttest"
)

func readStream(t *testing.T, tenant *Tenant, file, ad []byte) ([]byte, error) {
	t.Helper()
	r, err := tenant.DecryptStream(t.Context(), bytes.NewReader(file), ad)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestStreamRoundTrip(t *testing.T) {
	_, tenant := inMemory(t)
	for _, size := range sizes {
		plaintext := bytes.Repeat([]byte("abcdefg"), size/7+1)[:size]
		file := sealedFile(t, tenant, plaintext, []byte("ad"))
		assert.True(t, bytes.HasPrefix(file, []byte("dek:v1:s1.")))
		got, err := readStream(t, tenant, file, []byte("ad"))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(plaintext, got), "%d bytes", size)
	}
}

// Each file has a data key of its own.
func TestStreamKeysAreFresh(t *testing.T) {
	_, tenant := inMemory(t)
	a, b := sealedFile(t, tenant, nil, nil), sealedFile(t, tenant, nil, nil)
	assert.NotEqual(t, a[:bytes.IndexByte(a, '\n')], b[:bytes.IndexByte(b, '\n')])
}

// Wherever a stream is changed, cut off, extended or put together anew, reading
// it ends with an error, and never at io.EOF.
func TestChangedStreamsDoNotOpen(t *testing.T) {
	_, tenant := inMemory(t)
	plaintext := make([]byte, 2<<20+100)
	file := sealedFile(t, tenant, plaintext, []byte("ad"))
	other := sealedFile(t, tenant, plaintext, []byte("ad"))
	line := bytes.IndexByte(file, '\n') + 1
	body := file[line:]
	changed := map[string][]byte{
		"nothing": nil, "the line alone": file[:line], "no line": body, "half a header": file[:line+20], "the header alone": file[:line+40],
		"without its last segment":  file[:line+2<<20],
		"without its middle":        append(append([]byte{}, file[:line+1<<20]...), body[2<<20:]...),
		"segments exchanged":        append(append(append([]byte{}, file[:line]...), body[1<<20:2<<20]...), body...),
		"a byte more":               append(append([]byte{}, file...), 0),
		"a segment more":            append(append([]byte{}, file...), body[1<<20:]...),
		"another file's first line": append(append([]byte{}, other[:bytes.IndexByte(other, '\n')+1]...), body...),
		"CR before LF":              append(append(append([]byte{}, file[:line-1]...), '\r', '\n'), body...),
		"an envelope's mark":        bytes.Replace(file, []byte(":s1."), []byte(":e1."), 1),
	}
	for _, at := range []int{0, 5, line - 2, line, line + 1, line + 35, line + 41, line + 1<<20, len(file) - 1} {
		b := append([]byte{}, file...)
		b[at] ^= 1
		changed[fmt.Sprint("changed at ", at)] = b
		changed[fmt.Sprint("cut off at ", at)] = file[:at]
	}
	for name, b := range changed {
		_, err := readStream(t, tenant, b, []byte("ad"))
		assert.True(t, DoesNotOpen(err), "%s: %v", name, err)
	}
	_, err := readStream(t, tenant, file, nil)
	assert.ErrorIs(t, err, ErrDecrypt)
}

// A failing disk is told from a file that does not open, and an error stays.
func TestStreamTellsReadFailures(t *testing.T) {
	_, tenant := inMemory(t)
	file := sealedFile(t, tenant, make([]byte, 2<<20), nil)
	broken := errors.New("broken disk")
	for _, n := range []int{0, 150, 1 << 20} {
		source := io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken))
		r, err := tenant.DecryptStream(t.Context(), source, nil)
		if err == nil {
			_, err = io.ReadAll(r)
			_, again := r.Read(make([]byte, 1))
			assert.Equal(t, err, again)
		}
		assert.ErrorIs(t, err, broken)
	}
}

// While a file is read its key is asked for again, each time the bound has passed.
func TestStreamReadingEndsWithTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, tenant := inMemory(t)
		file := sealedFile(t, tenant, make([]byte, 5<<20), nil)
		r, err := tenant.DecryptStream(t.Context(), bytes.NewReader(file), nil)
		require.NoError(t, err)
		part := make([]byte, 1<<20)
		for range 2 {
			_, err = io.ReadFull(r, part)
			require.NoError(t, err)
			advance(DefaultMaxAge)
		}
		assert.Equal(t, 2, e.Requests("decrypt"))
		e.Rotate(tenantID)
		e.DestroyVersion(tenantID, 1)
		_, err = io.ReadAll(r)
		assert.True(t, DoesNotOpen(err), "%v", err)
	})
}

// beginFile begins to encrypt a file without associated data.
func beginFile(t *testing.T, tenant *Tenant) (out *bytes.Buffer, w io.WriteCloser) {
	t.Helper()
	out = new(bytes.Buffer)
	w, err := tenant.EncryptStream(t.Context(), out, nil)
	require.NoError(t, err)
	return out, w
}

// A file that was written for longer than its lease, over a rotation, is whole
// and says that its first line is to be rewrapped.
func TestStreamWrittenOverARotation(t *testing.T) {
	for name, tc := range map[string]struct {
		takes   time.Duration
		rotate  bool
		rotated bool
	}{
		"within the lease":         {time.Hour - time.Second, true, false},
		"longer, without rotation": {time.Hour, false, false},
		"longer, with rotation":    {time.Hour, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, tenant := inMemory(t)
				out, w := beginFile(t, tenant)
				_, err := io.WriteString(w, "text")
				require.NoError(t, err)
				if tc.rotate {
					e.Rotate(tenantID)
				}
				advance(tc.takes)
				err = w.Close()
				assert.Equal(t, tc.rotated, errors.Is(err, ErrRotated), "%v", err)
				_, err = io.WriteString(w, "more")
				assert.ErrorIs(t, err, io.ErrClosedPipe)
				assert.NoError(t, w.Close())
				got, err := readStream(t, tenant, out.Bytes(), nil)
				require.NoError(t, err)
				assert.Equal(t, "text", string(got))
			})
		})
	}
}

// Once its lease has ended, the key of a file that is being written is asked for again.
// Whoever has taken it away ends the writing with that.
func TestStreamWritingEndsWithTheKey(t *testing.T) {
	for name, take := range map[string]func(*clienttest.Engine){
		"version destroyed": func(e *clienttest.Engine) { e.Rotate(tenantID); e.DestroyVersion(tenantID, 1) },
		"provider denied":   func(e *clienttest.Engine) { e.Deny(tenantID) },
		"tenant deleted":    func(e *clienttest.Engine) { e.DeleteTenant(tenantID) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, tenant := inMemory(t)
				out, w := beginFile(t, tenant)
				part := make([]byte, 1<<20)
				for range 2 {
					_, err := w.Write(part)
					require.NoError(t, err)
					advance(time.Hour)
				}
				assert.Equal(t, 1, e.Requests("decrypt"), "once the lease had ended")
				take(e)
				before := out.Len()
				_, err := w.Write(part)
				require.Error(t, err)
				_, again := w.Write(part)
				assert.Equal(t, err, again)
				assert.Equal(t, err, w.Close(), "the stream is not whole")
				assert.Equal(t, err, w.Close())
				assert.Equal(t, before, out.Len(), "nothing more is sealed")
			})
		})
	}
}

// With short leases a long file asks for its key as often; with none it is one text.
func TestStreamWritingKeepsShortLeases(t *testing.T) {
	for lease, asked := range map[int]int{0: 0, 10: 3} {
		synctest.Test(t, func(t *testing.T) {
			e, tenant := inMemory(t)
			e.SetLease(lease)
			_, w := beginFile(t, tenant)
			for range 3 {
				advance(10 * time.Second)
				for range 5 {
					_, err := io.WriteString(w, "text")
					require.NoError(t, err)
				}
			}
			require.NoError(t, w.Close())
			assert.Equal(t, asked, e.Requests("decrypt"), "%d s", lease)
		})
	}
}

// So does one that is read; a lease of 0 is for the whole file.
func TestStreamReadingKeepsShortLeases(t *testing.T) {
	for lease, asked := range map[int]int{0: 1, 10: 4, 3600: 1} {
		synctest.Test(t, func(t *testing.T) {
			e, tenant := inMemory(t)
			file := sealedFile(t, tenant, bytes.Repeat([]byte("text"), 1<<20), nil)
			e.SetLease(lease)
			r, err := tenant.DecryptStream(t.Context(), bytes.NewReader(file), nil)
			require.NoError(t, err)
			for range 3 {
				advance(10 * time.Second)
				for range 5 {
					_, err = r.Read(make([]byte, 4))
					require.NoError(t, err)
				}
			}
			assert.Equal(t, asked, e.Requests("decrypt"), "%d s", lease)
		})
	}
}

func TestRewrapFirstLine(t *testing.T) {
	e, tenant := inMemory(t)
	file := sealedFile(t, tenant, []byte("text"), []byte("ad"))
	at := bytes.IndexByte(file, '\n') + 1
	e.Rotate(tenantID)
	line, err := tenant.RewrapFirstLine(t.Context(), string(file[:at]))
	require.NoError(t, err)
	requireVersion(t, 2, line)
	e.DestroyVersion(tenantID, 1)
	got, err := readStream(t, tenant, append([]byte(line), file[at:]...), []byte("ad"))
	require.NoError(t, err)
	assert.Equal(t, "text", string(got))
	for _, bad := range []string{"", "dek:v1:s1.AAAA", "dek:v1:e1.AAAA\n", "dek:v1:s1.\n", "dek:v1:s1.AAAA\n"} {
		_, err := tenant.RewrapFirstLine(t.Context(), bad)
		assert.True(t, DoesNotOpen(err), "%q: %v", bad, err)
	}
}

type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

func TestStreamWriteFailures(t *testing.T) {
	_, tenant := inMemory(t)
	for _, left := range []int{0, 120, 200, 1 << 20} {
		w, err := tenant.EncryptStream(t.Context(), &failingWriter{left}, nil)
		if err == nil {
			_, err = w.Write(make([]byte, 2<<20))
			if err == nil {
				err = w.Close()
			}
			assert.Equal(t, err, w.Close(), "a stream that is not whole stays so")
		}
		assert.Error(t, err, "%d", left)
	}
}
