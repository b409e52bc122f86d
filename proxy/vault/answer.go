// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/hashicorp/vault/api"
)

var (
	// errorCount is the line that go-multierror puts before its list.
	errorCount     = regexp.MustCompile(`^\d+ errors? occurred:\s*`)
	rotationInText = regexp.MustCompile(`rot-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
)

// answerError turns what the api library returns into a *Error, ErrTimeout
// or ErrUnreachable. The library's own error is not kept where Vault answered:
// it drops the body's data and prints the URL.
func answerError(ctx context.Context, resp *api.Response, err error) error {
	var re *api.ResponseError
	if !errors.As(err, &re) {
		// The URL would put IDs and usernames into the log.
		var at *url.Error
		if errors.As(err, &at) {
			err = at.Err
		}
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%w: %w", ErrTimeout, err)
		}
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if re.StatusCode/100 == 3 {
		return errRedirect
	}
	ve := &Error{Status: re.StatusCode}
	if re.RawError {
		// Not Vault's JSON: some other server's page, of no use to anyone here.
		ve.Messages = []string{http.StatusText(re.StatusCode)}
	} else {
		ve.Messages = cleanMessages(re.Errors)
		ve.Listed = len(re.Errors) == 1 && errorCount.MatchString(strings.TrimSpace(re.Errors[0]))
		ve.BareDenial = re.StatusCode == http.StatusForbidden &&
			len(re.Errors) == 1 && strings.TrimSpace(re.Errors[0]) == "permission denied"
	}
	if resp == nil {
		return ve
	}
	ve.RetryAfter = resp.Header.Get("Retry-After")
	if re.StatusCode == http.StatusConflict {
		ve.RotationID = runningRotation(resp.Body, ve.Text())
	}
	return ve
}

// runningRotation finds the rotation that a conflict names: in the body's data,
// else in the message.
func runningRotation(body io.Reader, text string) string {
	var conflict struct {
		Data struct {
			RotationID string `json:"rotation_id"`
		} `json:"data"`
	}
	raw, err := io.ReadAll(io.LimitReader(body, maxAnswer))
	if err == nil && json.Unmarshal(raw, &conflict) == nil && conflict.Data.RotationID != "" {
		return conflict.Data.RotationID
	}
	return rotationInText.FindString(text)
}

// cleanMessages strips "2 errors occurred:\n\t* a\n\t* b" down to "a", "b".
func cleanMessages(raw []string) []string {
	clean := make([]string, 0, len(raw))
	for _, message := range raw {
		message = errorCount.ReplaceAllString(strings.TrimSpace(message), "")
		for line := range strings.Lines(message) {
			if line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "* ")); line != "" {
				clean = append(clean, line)
			}
		}
	}
	return clean
}
