// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package localkmstest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The environment of a program that is to run the emulator, in namespaces made for it.
const (
	envProgram = "LOCALKMSTEST_PROGRAM" // the emulator's
	envSocket  = "LOCALKMSTEST_SOCKET"  // where its connections come in
	port       = "8080"                 // of the emulator, in its own network
)

// A test's program that finds itself started by [Emulator.Start] is not to run any test.
func init() {
	if os.Getenv(envProgram) == "" {
		return
	}
	err := serveInside(os.Getenv(envProgram), os.Getenv(envSocket))
	_, _ = fmt.Fprintln(os.Stderr, "localkmstest:", err)
	os.Exit(1)
}

// startInside starts this program again in namespaces of its own. It ends when stdin does.
func startInside(program, socket string, stdin io.Reader, log io.Writer, env []string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, attr := range []*syscall.SysProcAttr{
		{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID},
		{ // without root
			Cloneflags:  syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		},
	} {
		cmd := exec.Command(self) // #nosec G204 -- the test's own program
		cmd.Env = append(env, envProgram+"="+program, envSocket+"="+socket)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, log, log
		cmd.SysProcAttr = attr
		if err = cmd.Start(); err == nil {
			return cmd, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

// serveInside runs the emulator and takes connections to it until it ends, or stdin does: the
// test's program holds the other end of that. As this is the first process of its namespace,
// the kernel ends the emulator with it.
func serveInside(program, socket string) error {
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	emulator := exec.Command(program) // #nosec G204 G702 -- what scripts/localkms.sh has built
	emulator.Env = append(os.Environ(), envProgram+"=", "PORT="+port)
	emulator.Stdout, emulator.Stderr = os.Stdout, os.Stderr
	if err := emulator.Start(); err != nil {
		return err
	}
	_ = os.Remove(socket) // #nosec G703 -- the test's own, of an emulator that was ended
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	ended := make(chan error, 3)
	go func() { ended <- fmt.Errorf("the emulator ended: %w", emulator.Wait()) }()
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- fmt.Errorf("the test ended: %w", err)
	}()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				ended <- err
				return
			}
			go forward(conn)
		}
	}()
	return <-ended
}

// loopbackUp brings up the only interface that a new network has.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// forward joins a connection to the emulator. One that is refused, as the emulator is only
// starting, ends.
func forward(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	to, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	var both sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{conn: to, to: conn} {
		both.Go(func() {
			_, _ = io.Copy(to, from)
			_ = to.Close() // ends the other direction
		})
	}
	both.Wait()
}
