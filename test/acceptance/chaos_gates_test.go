// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"io"
	"log"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	kms "k8s.io/kms/apis/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/softhsmtest"
)

// trouble is what a key provider does with calls.
type trouble string

const (
	works   trouble = "works"
	delays  trouble = "delays"
	gone    trouble = "gone"
	denies  trouble = "denies"
	garbage trouble = "garbage"
	hangs   trouble = "hangs"
	flaps   trouble = "flaps" // any of the others but hangs, call by call
)

// troubles are all there are, and steady those that flapping takes turns with. A call
// that hangs takes as long as many others, and there would be few turns.
var (
	troubles = []trouble{delays, gone, denies, garbage, hangs, flaps}
	steady   = []trouble{works, delays, gone, denies, garbage}
)

// slowest is how long a slow provider takes for a call, at most.
const slowest = 1500 * time.Millisecond

// gate stands before a key provider, and has it be in trouble. It is safe for concurrent
// use.
type gate struct {
	mu    sync.Mutex
	how   trouble
	over  chan struct{} // closed when how changes
	rng   *mathrand.Rand
	calls map[trouble]int // how many calls it has treated so
}

func newGate() *gate {
	return &gate{how: works, over: make(chan struct{}), calls: map[trouble]int{}}
}

// set changes how calls are treated. Calls that hang end.
func (g *gate) set(how trouble, seed uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.over)
	g.how, g.over, g.rng = how, make(chan struct{}), mathrand.New(mathrand.NewPCG(seed, 0))
}

// meet says how to treat a call, which of several answers to give, and when the trouble is
// over. A slow call has been slow already.
func (g *gate) meet(ctx context.Context) (how trouble, which int, over <-chan struct{}) {
	g.mu.Lock()
	how, over = g.how, g.over
	var takes time.Duration
	if how != works {
		which, takes = g.rng.IntN(100), time.Duration(g.rng.Int64N(int64(slowest)))
	}
	if how == flaps {
		how = steady[g.rng.IntN(len(steady))]
	}
	g.calls[how]++
	g.mu.Unlock()
	if how == delays {
		select {
		case <-time.After(takes):
		case <-over:
		case <-ctx.Done():
		}
	}
	return how, which, over
}

// met is how many calls were treated so.
func (g *gate) met(how trouble) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls[how]
}

// guardHTTP serves another HTTP server behind a gate, on loopback, until the test ends.
func guardHTTP(t *testing.T, g *gate, address string) string {
	t.Helper()
	target, err := url.Parse(address)
	require.NoError(t, err)
	behind := httputil.NewSingleHostReverseProxy(target)
	behind.ErrorLog = log.New(io.Discard, "", 0) // the plugin is killed while it waits
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		how, which, over := g.meet(req.Context())
		switch how {
		case works, delays:
			behind.ServeHTTP(w, req)
			return
		case denies:
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`)
			return
		case garbage:
			answers := []string{
				"<html>it works</html>", `{"data":{}}`, `{"data":{"ciphertext":"vault:v1:AAAA"}}`,
				`{"data":{"plaintext":"AAAA"}}`, `{"data":`, "",
			}
			_, _ = io.WriteString(w, answers[which%len(answers)])
			return
		case hangs:
			select {
			case <-over:
			case <-req.Context().Done():
			}
		}
		panic(http.ErrAbortHandler) // the connection breaks
	}))
	t.Cleanup(func() {
		g.set(works, 0) // what hangs would hold up the server's end
		server.Close()
	})
	return server.URL
}

// keyService is what seals and opens for the Kubernetes KMS API.
type keyService interface {
	Encrypt(ctx context.Context, req *kms.EncryptRequest) (*kms.EncryptResponse, error)
	Decrypt(ctx context.Context, req *kms.DecryptRequest) (*kms.DecryptResponse, error)
}

// keyInMemory is a key service of this process.
type keyInMemory struct{ key cipher.AEAD }

func newKeyInMemory(t *testing.T) keyInMemory {
	t.Helper()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	block, err := aes.NewCipher(secret)
	require.NoError(t, err)
	key, err := cipher.NewGCMWithRandomNonce(block)
	require.NoError(t, err)
	return keyInMemory{key}
}

func (k keyInMemory) Encrypt(_ context.Context, req *kms.EncryptRequest) (*kms.EncryptResponse, error) {
	return &kms.EncryptResponse{Ciphertext: k.key.Seal(nil, nil, req.GetPlaintext(), nil), KeyId: "key-1"}, nil
}

func (k keyInMemory) Decrypt(_ context.Context, req *kms.DecryptRequest) (*kms.DecryptResponse, error) {
	plaintext, err := k.key.Open(nil, nil, req.GetCiphertext(), nil)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "it does not open")
	}
	return &kms.DecryptResponse{Plaintext: plaintext}, nil
}

// keyOnToken is a key service of dek-kms-pkcs11.
type keyOnToken struct {
	client kms.KeyManagementServiceClient
}

func (k keyOnToken) Encrypt(ctx context.Context, req *kms.EncryptRequest) (*kms.EncryptResponse, error) {
	return k.client.Encrypt(ctx, req)
}

func (k keyOnToken) Decrypt(ctx context.Context, req *kms.DecryptRequest) (*kms.DecryptResponse, error) {
	return k.client.Decrypt(ctx, req)
}

// newKeyService has a key on a PKCS#11 token, and without SoftHSM or dek-kms-pkcs11 one in
// memory.
func newKeyService(t *testing.T) keyService {
	t.Helper()
	if _, built := pkcs11Program(t); os.Getenv("CI") != "true" && (!built || !softhsmtest.Available()) {
		t.Log("there is no SoftHSM, or no dek-kms-pkcs11 (make pkcs11): the key of the KMS plugin is in memory")
		return newKeyInMemory(t)
	}
	hsm := softhsmtest.New(t)
	hsm.Generate("dek", "01")
	conn, err := grpc.NewClient("unix://"+servePKCS11(t, hsm, "dek"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return keyOnToken{kms.NewKeyManagementServiceClient(conn)}
}

// guardedKMS is a plugin of the Kubernetes KMS API, version 2, behind a gate.
type guardedKMS struct {
	kms.UnimplementedKeyManagementServiceServer
	*gate
	behind keyService
}

// guardKMS serves a key service behind a gate on a socket in dir, until the test ends.
func guardKMS(t *testing.T, g *gate, behind keyService, dir string) (socket string) {
	t.Helper()
	socket = filepath.Join(dir, "kms.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	require.NoError(t, err)
	server := grpc.NewServer()
	kms.RegisterKeyManagementServiceServer(server, &guardedKMS{gate: g, behind: behind})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		g.set(works, 0)
		server.Stop()
	})
	return socket
}

// refusal is what a call gets in place of an answer. Without one nonsense says whether the
// answer is to be.
func (k *guardedKMS) refusal(ctx context.Context) (nonsense bool, err error) {
	how, _, over := k.meet(ctx)
	switch how {
	case denies:
		return false, status.Error(codes.PermissionDenied, "the key is disabled")
	case gone:
		return false, status.Error(codes.Unavailable, "there is no token")
	case hangs:
		select {
		case <-over:
		case <-ctx.Done():
		}
		return false, status.Error(codes.Unavailable, "it has hung")
	}
	return how == garbage, nil
}

// Encrypt seals, or answers as the trouble has it.
func (k *guardedKMS) Encrypt(ctx context.Context, req *kms.EncryptRequest) (*kms.EncryptResponse, error) {
	nonsense, err := k.refusal(ctx)
	if err != nil {
		return nil, err
	}
	if nonsense {
		return &kms.EncryptResponse{Ciphertext: []byte("it works"), KeyId: "key-1"}, nil
	}
	return k.behind.Encrypt(ctx, req)
}

// Decrypt opens, or answers as the trouble has it.
func (k *guardedKMS) Decrypt(ctx context.Context, req *kms.DecryptRequest) (*kms.DecryptResponse, error) {
	nonsense, err := k.refusal(ctx)
	if err != nil {
		return nil, err
	}
	if nonsense {
		return &kms.DecryptResponse{Plaintext: []byte("another key, of thirty-two bytes")}, nil
	}
	return k.behind.Decrypt(ctx, req)
}
