// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package machine knows what the machine has.
package machine

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// Memory returns the bytes of memory that the machine, or the control group
// that the process is in, has; 0 if the system does not tell. Linux does.
func Memory() (n int64) {
	if f, err := os.Open("/proc/meminfo"); err == nil {
		defer func() { _ = f.Close() }()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == "MemTotal:" {
				kib, _ := strconv.ParseInt(fields[1], 10, 64)
				n = kib << 10
				break
			}
		}
	}
	for _, limit := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(limit) // #nosec G304 -- one of two
		if err != nil {
			continue
		}
		group, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // or "max"
		if err == nil && group > 0 && (n == 0 || group < n) {
			n = group
		}
	}
	return n
}
