// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package release

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

const (
	// SumsFile lists the SHA-256 of every other file of a release.
	SumsFile = "SHA256SUMS"
	// SignatureNamespace is what signatures of SumsFile are made for, by ssh-keygen -Y.
	SignatureNamespace = "vault-plugin-dek-release"
	// Signer is the identity that a verifier's list of signers gives the key.
	Signer = "release@vault-plugin-dek"
)

// SignatureNote is the file SIGNATURE of an archive. It does not depend on the key, so
// that everyone can make the same archive.
func SignatureNote(signed bool) []byte {
	if !signed {
		return []byte("This archive is unsigned: it was made without SIGNING_KEY. Nothing but its source\nvouches for it.\n")
	}
	return []byte(strings.NewReplacer("@SUMS@", SumsFile, "@NAMESPACE@", SignatureNamespace, "@SIGNER@", Signer).Replace(
		`The SHA-256 of this archive is in @SUMS@, whose signature is @SUMS@.sig. With the public
key of the release, which must not come from where the archive comes from, and in the
directory that the archive was downloaded to:

  echo "@SIGNER@ $(cat release-key.pub)" >signers
  ssh-keygen -Y verify -f signers -I @SIGNER@ -n @NAMESPACE@ -s @SUMS@.sig <@SUMS@
  sha256sum --check --ignore-missing @SUMS@
`))
}

// Sums returns the lines of [SumsFile], as sha256sum reads them.
func Sums(files []File) []byte {
	var out bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&out, "%s  %s\n", digest(f.Data), f.Name)
	}
	return out.Bytes()
}

// CheckKey asks ssh-keygen whether a file is a key, of which it needs no passphrase. So a
// name that is mistyped shows before the builds, and not once archives say that they are
// signed.
func CheckKey(ctx context.Context, key string) error {
	out, err := exec.CommandContext(ctx, "ssh-keygen", "-l", "-f", key).CombinedOutput() //nolint:gosec // the key is the caller's
	if err != nil {
		return fmt.Errorf("SIGNING_KEY: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// Sign has ssh-keygen sign a file, with a private key in a file, or with the key of an
// agent whose public half is in the file. The signature lies beside the file afterwards,
// with .sig behind its name.
func Sign(ctx context.Context, key, file string) error {
	if err := os.Remove(file + ".sig"); err != nil && !os.IsNotExist(err) {
		return err
	}
	cmd := exec.CommandContext(ctx, "ssh-keygen", "-Y", "sign", "-f", key, "-n", SignatureNamespace, file) //nolint:gosec // the key is the caller's
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ssh-keygen does not sign: %w", err)
	}
	data, err := os.ReadFile(file) //nolint:gosec // just written
	if err != nil {
		return err
	}
	check := exec.CommandContext(ctx, "ssh-keygen", "-Y", "check-novalidate", "-n", SignatureNamespace, "-s", file+".sig") //nolint:gosec // as above
	check.Stdin = bytes.NewReader(data)
	if out, err := check.CombinedOutput(); err != nil {
		return fmt.Errorf("the signature does not verify: %w: %s", err, out)
	}
	return nil
}
