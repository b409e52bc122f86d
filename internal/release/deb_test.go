// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package release_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/release"
)

// members reads an ar archive.
func members(t *testing.T, archive []byte) (names []string, data map[string][]byte) {
	t.Helper()
	data = map[string][]byte{}
	rest, ok := bytes.CutPrefix(archive, []byte("!<arch>\n"))
	require.True(t, ok)
	for len(rest) > 0 {
		require.Equal(t, "\x60\n", string(rest[58:60]))
		name := strings.TrimSpace(string(rest[:16]))
		size, err := strconv.Atoi(strings.TrimSpace(string(rest[48:58])))
		require.NoError(t, err)
		names, data[name] = append(names, name), rest[60:60+size]
		rest = rest[60+size+size%2:]
	}
	return names, data
}

func TestDebianPackage(t *testing.T) {
	deb, err := contents(release.Platform{OS: "linux", Arch: "arm64"}).Debian()
	require.NoError(t, err)
	names, data := members(t, deb)
	require.Equal(t, []string{"debian-binary", "control.tar.gz", "data.tar.gz"}, names)
	require.Equal(t, "2.0\n", string(data["debian-binary"]))

	listed, control := unpacked(t, gunzip(t, data["control.tar.gz"]))
	require.Contains(t, listed, "-rwxr-xr-x postinst")
	require.Contains(t, control["control"], "Package: dek-proxy\nVersion: 1.2.3\nArchitecture: arm64\n")
	require.NotRegexp(t, "@[A-Z]+@", control["control"])
	require.Equal(t, "/etc/dek-proxy/dek-proxy.env\n", control["conffiles"])

	listed, files := unpacked(t, gunzip(t, data["data.tar.gz"]))
	for _, want := range []string{
		"-rwxr-xr-x usr/bin/dek-proxy", "-rw-r--r-- usr/lib/systemd/system/dek-proxy.service",
		"-rw-r--r-- etc/dek-proxy/dek-proxy.env", "drwx------ etc/dek-proxy/credentials/",
		"-rw-r--r-- usr/share/doc/dek-proxy/LICENSE", "-rw-r--r-- usr/share/doc/dek-proxy/proxy.md",
		"-rw-r--r-- usr/share/doc/dek-proxy/THIRD_PARTY_NOTICES.txt",
	} {
		require.Contains(t, listed, want)
	}
	require.Equal(t, "program dek-proxy", files["usr/bin/dek-proxy"])
	changelog := string(gunzip(t, []byte(files["usr/share/doc/dek-proxy/changelog.gz"])))
	require.Regexp(t, `^dek-proxy \(1\.2\.3\) unstable; urgency=medium\n\n  \* .*\n\n -- .* <.*>  [A-Z][a-z]{2}, [0-9]{2} `, changelog)
	require.NotContains(t, files, "usr/share/doc/dek-proxy/api.md")
	require.Len(t, strings.Split(strings.TrimSpace(control["md5sums"]), "\n"), len(files)-strings.Count(strings.Join(listed, "\n")+"\n", "/\n"))
}

// Where Debian's own tool is there, it reads the package, too.
func TestDebianToolReadsThePackage(t *testing.T) {
	tool := program(t, "dpkg-deb")
	deb, err := contents(release.Platform{OS: "linux", Arch: "amd64"}).Debian()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "dek-proxy.deb")
	require.NoError(t, os.WriteFile(file, deb, 0o600))
	for _, option := range []string{"--info", "--contents"} {
		out, err := exec.CommandContext(t.Context(), tool, option, file).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "dek-proxy")
	}
	out, err := exec.CommandContext(t.Context(), tool, "--field", file, "Version").Output()
	require.NoError(t, err)
	require.Equal(t, "1.2.3\n", string(out))
}

// debianControl returns the control files of a package, its scripts among them.
func debianControl(t *testing.T) map[string]string {
	t.Helper()
	deb, err := contents(release.Platform{OS: "linux", Arch: "amd64"}).Debian()
	require.NoError(t, err)
	_, data := members(t, deb)
	_, control := unpacked(t, gunzip(t, data["control.tar.gz"]))
	return control
}

// An upgrade restarts a service that runs, and is done also where that does not start
// again; a first installation starts nothing.
func TestDebianUpgradeIsDoneThoughTheServiceFails(t *testing.T) {
	control := debianControl(t)
	dir := t.TempDir()
	fake := "#!/bin/sh\necho $1\n[ $1 != try-restart ]\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "systemctl"), []byte(fake), 0o700))
	for old, want := range map[string]string{"": "daemon-reload\n", "1.0.0": "daemon-reload\ntry-restart\ndek-proxy: the service did not start again"} {
		script := strings.ReplaceAll(control["postinst"], "/run/systemd/system", dir)
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script, "postinst", "configure", old)
		cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.True(t, strings.HasPrefix(string(out), want), "%s", out)
		require.Equal(t, old != "", strings.Contains(string(out), "try-restart"))
	}
}

// A removal stops the service and disables it, where systemd does not run, too, and goes
// through though neither works.
func TestDebianRemoval(t *testing.T) {
	control := debianControl(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\necho $*\nexit 1\n"), 0o700))
	const stopped = "stop dek-proxy.service\ndek-proxy: the service did not stop\n"
	const disabled = "--no-reload disable dek-proxy.service\ndek-proxy: the service may still be enabled\n"
	for what, want := range map[string]map[bool]string{
		"remove":  {true: stopped + disabled, false: disabled},
		"upgrade": {true: "", false: ""},
	} {
		for runs, says := range want {
			running := filepath.Join(dir, "none")
			if runs {
				running = dir
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(control["prerm"], "/run/systemd/system", running), "prerm", what)
			cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Equal(t, says, string(out), "%s %t", what, runs)
		}
	}
}

func TestDebianVersionsAreInOrder(t *testing.T) {
	require.Equal(t, "1.2.3", release.DebianVersion("v1.2.3"))
	require.Equal(t, "1.2.3~rc.1", release.DebianVersion("v1.2.3-rc.1"))
}

// program finds a program that not every machine has. Under CI=true it must be there.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}
