// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// machine describes what the figures were measured on, without naming it.
func machine() string {
	return fmt.Sprintf("%d cores (%s), %.0f GB memory, %s %s/%s", runtime.NumCPU(), processor(),
		kilobytes("/proc/meminfo", "MemTotal")/1e6, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func processor() string {
	if name := field("/proc/cpuinfo", "model name"); name != "" {
		return name
	}
	return "unknown processor"
}

// residentMB is the memory that processes have resident, in megabytes; 0 where
// there is no /proc.
func residentMB(pids []int) (sum float64) {
	for _, pid := range pids {
		sum += kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmRSS") / 1000
	}
	return sum
}

// mostResidentMB is the most memory that a process that has ended had resident.
func mostResidentMB(u *syscall.Rusage) float64 {
	if runtime.GOOS == "darwin" {
		return float64(u.Maxrss) / 1e6 // in bytes there
	}
	return float64(u.Maxrss) * 1024 / 1e6
}

// kilobytes is a field whose value reads like "123 kB".
func kilobytes(path, name string) float64 {
	number, _, _ := strings.Cut(field(path, name), " ")
	n, _ := strconv.ParseFloat(number, 64) // 0 if it is not there
	return n * 1.024                       // the kernel's kB are 1,024 bytes
}

// field is the value of the first line "name: value" of a file, or empty.
func field(path, name string) string {
	data, err := os.ReadFile(path) // #nosec G304 G703 -- below /proc
	if err != nil {
		return ""
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		key, value, found := strings.Cut(lines.Text(), ":")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
