// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

const originPrefix = "vault-plugin-dek/"

// ErrOrigin reports a name that is not that of a log of this engine.
var ErrOrigin = errors.New("not the origin of a log of this engine")

// Origin names the nth log of a mount, n from 1. It is the first line of each
// checkpoint and the name of the log's signing keys.
func Origin(mountUUID string, n int64) string {
	return fmt.Sprintf("%s%s/%d", originPrefix, mountUUID, n)
}

// ParseOrigin is the inverse of Origin.
func ParseOrigin(origin string) (mountUUID string, n int64, err error) {
	rest, ok := strings.CutPrefix(origin, originPrefix)
	id, number, found := strings.Cut(rest, "/")
	n, parseErr := strconv.ParseInt(number, 10, 64)
	parsed, uuidErr := uuid.Parse(id)
	if !ok || !found || parseErr != nil || n < 1 || uuidErr != nil || parsed.String() != id || Origin(id, n) != origin {
		return "", 0, ErrOrigin
	}
	return id, n, nil
}
