// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	kms "k8s.io/kms/apis/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/programtest"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/softhsmtest"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/syncbuf"
)

// A PKCS#11 library reads its configuration once in a process, so the program runs in its own.
func TestMain(m *testing.M) { programtest.Main(m, main) }

// It needs neither a token nor a library.
func TestVersionOfTheProgram(t *testing.T) { programtest.SaysVersion(t, "dek-kms-pkcs11") }

const keyLabel = "dek"

// place is a token with a key, and where a program that serves it has its files.
type place struct {
	t       *testing.T
	hsm     *softhsmtest.Token
	socket  string
	pinFile string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	dir := directory(t)
	p := &place{t: t, hsm: softhsmtest.New(t), socket: filepath.Join(dir, "kms.sock"), pinFile: filepath.Join(dir, "pin")}
	p.hsm.Generate(keyLabel, "01")
	write(t, p.pinFile, p.hsm.PIN+"\n", 0o600)
	return p
}

// command is the program with the token, and more flags.
func (p *place) command(flags ...string) *exec.Cmd {
	flags = append([]string{
		"-socket", p.socket, "-module", p.hsm.Module, "-token-label", softhsmtest.Label, "-key-label", keyLabel,
		"-timeout", "1m",
	}, flags...)
	cmd := exec.Command(os.Args[0], flags...)
	cmd.Env = append(os.Environ(), p.hsm.Env(), programtest.Env)
	return cmd
}

// start starts the program until the test ends, and returns what asks it.
func (p *place) start(cmd *exec.Cmd) (kms.KeyManagementServiceClient, *syncbuf.Buffer) {
	p.t.Helper()
	log := new(syncbuf.Buffer)
	cmd.Stderr = log
	require.NoError(p.t, cmd.Start())
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		assert.NotContains(p.t, log.String(), p.hsm.PIN)
		if p.t.Failed() {
			p.t.Logf("%s\n%s", cmd.ProcessState, log)
		}
	})
	require.Eventually(p.t, func() bool {
		_, err := os.Lstat(p.socket)
		return err == nil
	}, time.Minute, 5*time.Millisecond)
	conn, err := grpc.NewClient("unix://"+p.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = conn.Close() })
	return kms.NewKeyManagementServiceClient(conn), log
}

func (p *place) keyID(client kms.KeyManagementServiceClient) string {
	p.t.Helper()
	is, err := client.Status(p.t.Context(), &kms.StatusRequest{}, grpc.WaitForReady(true))
	require.NoError(p.t, err)
	require.Equal(p.t, []string{"v2", "ok"}, []string{is.GetVersion(), is.GetHealthz()})
	return is.GetKeyId()
}

func (p *place) seals(client kms.KeyManagementServiceClient) *kms.EncryptResponse {
	p.t.Helper()
	sealed, err := client.Encrypt(p.t.Context(), &kms.EncryptRequest{Plaintext: []byte("plaintext"), Uid: "1"}, grpc.WaitForReady(true))
	require.NoError(p.t, err)
	return sealed
}

func (p *place) opens(client kms.KeyManagementServiceClient, sealed *kms.EncryptResponse) error {
	p.t.Helper()
	opened, err := client.Decrypt(p.t.Context(), &kms.DecryptRequest{Ciphertext: sealed.GetCiphertext(), KeyId: sealed.GetKeyId()})
	if err == nil {
		require.Equal(p.t, "plaintext", string(opened.GetPlaintext()))
	}
	return err
}

// opensAgain waits until what was sealed opens.
func (p *place) opensAgain(client kms.KeyManagementServiceClient, sealed *kms.EncryptResponse) {
	p.t.Helper()
	require.EventuallyWithT(p.t, func(c *assert.CollectT) {
		assert.NoError(c, p.opens(client, sealed))
	}, time.Minute, 10*time.Millisecond)
}

// A program serves a token of SoftHSM while its owner rotates the key, takes it away, brings
// it back, and does the same with the token.
func TestSoftHSM(t *testing.T) {
	p := newPlace(t)
	cmd := p.command("-pin-file", p.pinFile)
	client, log := p.start(cmd)
	require.Equal(t, "pkcs11:object=dek;id=%01;type=secret-key", p.keyID(client))
	info, err := os.Lstat(p.socket)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	first := p.seals(client)
	require.NoError(t, p.opens(client, first))

	material := make([]byte, 32)
	p.hsm.Import(keyLabel, "02", material)
	require.Equal(t, "pkcs11:object=dek;id=%02;type=secret-key", p.keyID(client))
	second := p.seals(client)
	require.Equal(t, p.keyID(client), second.GetKeyId())
	require.NoError(t, p.opens(client, first))
	require.NoError(t, p.opens(client, second))

	p.hsm.Destroy(keyLabel, "02")
	require.Equal(t, codes.NotFound, status.Code(p.opens(client, second)))
	require.NoError(t, p.opens(client, first))
	p.hsm.Import(keyLabel, "02", material)
	require.NoError(t, p.opens(client, second))

	second.Ciphertext[20] ^= 1
	require.NotContains(t, []codes.Code{codes.OK, codes.NotFound, codes.PermissionDenied}, status.Code(p.opens(client, second)))
	second.Ciphertext[20] ^= 1

	p.hsm.Remove()
	require.Equal(t, codes.Unavailable, status.Code(p.opens(client, second)), "a token that is away is no withdrawal")
	p.hsm.Insert()
	p.opensAgain(client, second)

	p.hsm.Destroy(keyLabel, "01")
	p.hsm.Destroy(keyLabel, "02")
	_, err = client.Status(t.Context(), &kms.StatusRequest{})
	require.Equal(t, codes.NotFound, status.Code(err))

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), "it ends in order")
	require.NoFileExists(t, p.socket)
	require.Contains(t, log.String(), `"msg":"stopping"`)
}

// A PIN that the owner has changed is a denial, which ends with the new PIN in the file. A
// program that was killed is started again on the same socket.
func TestSoftHSMWithAnotherPIN(t *testing.T) {
	p := newPlace(t)
	cmd := p.command("-pin-file", p.pinFile)
	client, _ := p.start(cmd)
	sealed := p.seals(client)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	old := p.hsm.PIN
	p.hsm.SetPIN()

	client, _ = p.start(p.command("-pin-file", p.pinFile))
	_, err := client.Status(t.Context(), &kms.StatusRequest{}, grpc.WaitForReady(true))
	require.Equal(t, codes.PermissionDenied, status.Code(err))
	require.NotContains(t, err.Error(), old)
	require.Equal(t, codes.PermissionDenied, status.Code(p.opens(client, sealed)))
	write(t, p.pinFile, p.hsm.PIN, 0o600)
	p.opensAgain(client, sealed)
}

func TestSoftHSMIsChecked(t *testing.T) {
	p := newPlace(t)
	run := func(pin string, flags ...string) (string, error) {
		cmd := p.command(append([]string{"-check", "-pin-fd", "3"}, flags...)...)
		r, w, err := os.Pipe()
		require.NoError(t, err)
		_, err = w.WriteString(pin)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		cmd.ExtraFiles = []*os.File{r}
		out, err := cmd.CombinedOutput()
		require.NoError(t, r.Close())
		require.NotContains(t, string(out), pin)
		return string(out), err
	}
	out, err := run(p.hsm.PIN)
	require.NoError(t, err, out)
	require.Contains(t, out, "pkcs11:object=dek;id=%01;type=secret-key\n")
	require.NoFileExists(t, p.socket)
	for _, c := range []struct {
		pin, flag, value, says string
	}{
		{"wrong pin", "-sessions", "1", "CKR_PIN_INCORRECT"},
		{p.hsm.PIN, "-key-label", "other", "-key-label"},
		{p.hsm.PIN, "-key-id", "02", "none has this ID"},
		{p.hsm.PIN, "-token-label", "other", "-token-label"},
		{p.hsm.PIN, "-token-serial", "0", "-token-serial"},
		{p.hsm.PIN, "-module", os.Args[0], "not a PKCS#11 library"},
		{p.hsm.PIN, "-module", "/nonexistent.so", "-module"},
	} {
		out, err := run(c.pin, c.flag, c.value)
		require.Error(t, err)
		require.Contains(t, out, c.says)
	}
}
