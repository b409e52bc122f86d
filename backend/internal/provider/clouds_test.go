// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider_test

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
)

// hangs takes requests, and does not answer.
type hangs struct{ asked int }

func (h *hangs) RoundTrip(req *http.Request) (*http.Response, error) {
	h.asked++
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// A service that does not answer costs the timeout, and is asked once: the engine asks again,
// and no SDK does.
func TestCloudsAreAskedOnce(t *testing.T) {
	for _, c := range []provider.Config{awsAt(""), azureOf()} {
		synctest.Test(t, func(t *testing.T) {
			h := new(hangs)
			s := newStore(provider.Surroundings{Transport: h})
			require.NoError(t, s.Put(t.Context(), "own", c, nil))
			began := time.Now()
			err := s.Probe(t.Context(), "own")
			require.ErrorIs(t, err, provider.ErrUnavailable, c.Type)
			require.ErrorContains(t, err, "no answer within the timeout", c.Type)
			require.Equal(t, c.Timeout, time.Since(began), c.Type)
			require.Equal(t, 1, h.asked, c.Type)
		})
	}
}

// floods answers with more than any answer has.
type floods struct{ read int }

func (f *floods) RoundTrip(*http.Request) (*http.Response, error) {
	f.read = 0
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(io.LimitReader(f, 8<<20))}, nil
}

func (f *floods) Read(p []byte) (int, error) {
	f.read += len(p)
	return len(p), nil
}

// Of an answer at most a megabyte is read.
func TestLongAnswersAreCutOff(t *testing.T) {
	for _, c := range []provider.Config{awsAt(""), azureOf(), transitAt("https://vault.example")} {
		f := new(floods)
		err := newStore(provider.Surroundings{Transport: f}).Try(t.Context(), "own", c, nil)
		require.ErrorIs(t, err, provider.ErrUnavailable, c.Type)
		require.NotZero(t, f.read, c.Type)
		require.LessOrEqual(t, f.read, 1<<20, c.Type)
	}
}

func TestCredentialsOfCloudsAreNotShown(t *testing.T) {
	g := providertest.NewGoogle(t)
	secrets := []string{providertest.AWSAccessKey, providertest.AWSSecretKey, providertest.AWSSession, g.Credentials(t, nil), providertest.AzureSecret}
	for _, c := range []provider.Config{changed(awsAt(""), "session_token", providertest.AWSSession), googleOf(t, g), azureOf()} {
		shown := c.Shown()
		for _, secret := range secrets {
			require.NotContains(t, slices.Collect(maps.Values(shown)), secret)
		}
		again, err := c.With(shown)
		require.NoError(t, err)
		require.Equal(t, c.Parameters, again.Parameters, "written as they read, they are kept")
	}
}
