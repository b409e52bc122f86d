// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kms

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
)

const (
	maxParameters     = 32
	maxParameterBytes = 16 << 10
)

// userAgent is what a service gets to know of the client.
const userAgent = "vault-plugin-dek"

// ErrInvalid reports settings that no key can have.
var ErrInvalid = errors.New("invalid")

// Refusal is an answer by which a service denies the key: it was disabled or destroyed, or
// the permission to use it was withdrawn. Every other error of a [Wrapper] says nothing
// about the key.
type Refusal struct{ Word string }

func (r *Refusal) Error() string { return r.Word }

// Settings say where a key is, and how it is reached.
type Settings struct {
	Type       string
	Parameters map[string]string
	Socket     string // of type kmsv2
}

// Surroundings are what the services use of the process.
type Surroundings struct {
	// Sockets is the directory below which sockets may lie, empty: none may.
	Sockets string
	// Transport takes the HTTP requests. Nil: a transport for each key.
	Transport http.RoundTripper
	// Dial makes the connections to Google. Nil: by TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Roots are trusted there. Nil: the system's.
	Roots *x509.CertPool
}

// Wrapper calls a service. Encrypt and Decrypt are those of go-kms-wrapping's Wrapper. They
// end with the context.
type Wrapper interface {
	Encrypt(ctx context.Context, plaintext []byte, opt ...wrapping.Option) (*wrapping.BlobInfo, error)
	Decrypt(ctx context.Context, blob *wrapping.BlobInfo, opt ...wrapping.Option) ([]byte, error)
	// Renew prolongs the credential, if that has to be done by now.
	Renew(ctx context.Context)
	// Close gives back what the wrapper holds. It is not used any more.
	Close()
}

// kind is a type of service.
type kind struct {
	parameters  []string // that it takes
	credentials []string // of these, those that are never shown
	open        func(Settings, Surroundings) (Wrapper, error)
}

var kinds = map[string]kind{
	"awskms":        {awsParameters, awsCredentials, newAWS},
	"transit":       {transitParameters, transitCredentials, newTransit},
	"azurekeyvault": {azureParameters, azureCredentials, newAzure},
	"gcpckms":       {googleParameters, googleCredentials, newGoogle},
	"kmsv2":         {open: newKMSv2},
}

// Types returns the types of services that there are.
func Types() []string { return slices.Sorted(maps.Keys(kinds)) }

// Credentials returns the parameters of a type that are never shown.
func Credentials(of string) []string { return kinds[of].credentials }

// Check fails with [ErrInvalid] if the settings break a rule that can be told without
// calling the service.
func Check(s Settings, in Surroundings) error {
	k, known := kinds[s.Type]
	if !known {
		return invalid("type must be one of %s", strings.Join(Types(), ", "))
	}
	if len(s.Parameters) > maxParameters {
		return invalid("parameters must have at most %d entries", maxParameters)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Parameters)) {
		if !slices.Contains(k.parameters, name) {
			return invalid("parameters has a name that type %s does not take; it takes %s", s.Type, strings.Join(k.parameters, ", "))
		}
		if len(s.Parameters[name]) > maxParameterBytes {
			return invalid("%s must have at most %d bytes", name, maxParameterBytes)
		}
	}
	w, err := k.open(s, in)
	if err != nil {
		return err
	}
	w.Close()
	return nil
}

// Open returns what calls the service. It calls nothing yet. It fails with [ErrInvalid].
func Open(s Settings, in Surroundings) (Wrapper, error) {
	k, known := kinds[s.Type]
	if !known {
		return nil, invalid("this version of the plugin does not have type %s", s.Type)
	}
	return k.open(s, in)
}

// invalid reports a setting that breaks a rule.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
