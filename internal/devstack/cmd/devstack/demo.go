// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// demonstration is one run of make demo.
type demonstration struct {
	stack *devstack.Stack
	jwt   string
	items []devstack.Item
	steps int
}

// demo shows the documented call on a real Vault and checks what it did.
func demo(ctx context.Context) error {
	if _, err := exec.LookPath("curl"); err != nil {
		return fmt.Errorf("the demo shows the documented curl command: %w", err)
	}
	began := time.Now()
	stack, err := devstack.Start(ctx, devstack.Options{})
	if err != nil {
		return orInterrupted(ctx, err)
	}
	d := &demonstration{stack: stack}
	d.step("A real Vault, the plugin and the proxy are running (%s)", since(began))
	err = d.run(ctx)
	if stopErr := stack.Stop(); err == nil {
		err = stopErr
	}
	if err != nil {
		return orInterrupted(ctx, err)
	}
	d.step("Stopped, nothing left behind. The demo took %s", since(began))
	return nil
}

// orInterrupted hides what broke because the user wanted to stop.
func orInterrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

func since(t time.Time) string { return fmt.Sprintf("%.1f s", time.Since(t).Seconds()) }

// step prints the heading of the next step.
func (d *demonstration) step(format string, args ...any) {
	d.steps++
	fmt.Printf("%d. %s\n", d.steps, fmt.Sprintf(format, args...))
}

func (d *demonstration) run(ctx context.Context) error {
	// By default an old key is kept for a week, unused; the demo shows its end.
	_, err := d.stack.Client().Logical().WriteWithContext(ctx, devstack.Mount+"/config",
		map[string]any{"retired_key_retention": "0s"})
	if err != nil {
		return fmt.Errorf("configure the engine: %w", err)
	}
	if d.items, err = d.stack.Seed(ctx, tenantID); err != nil {
		return err
	}
	d.step("Tenant %s has 25 credentials, 10 API keys and 50 secrets", tenantID)

	admin := people[1]
	d.jwt, err = d.stack.MintJWT(devstack.Claims{
		Subject: admin.subject(), Name: admin.name, Email: "security.admin@example.com",
		TenantID: tenantID, Roles: admin.roles,
	})
	if err != nil {
		return err
	}
	d.step("Rotate its key, as a security admin, with the documented command:\n")
	r, err := d.rotate(ctx)
	if err != nil {
		return err
	}
	d.step("Follow rotation %s", r.RotationID)
	if err := d.follow(ctx, r.RotationID); err != nil {
		return err
	}
	d.step("Check what it did")
	if err := d.check(ctx, r); err != nil {
		return err
	}
	return d.secondAct(ctx)
}

// rotation is what the demo reads of the documented answers.
type rotation struct {
	RotationID    string         `json:"rotationId"`
	Status        string         `json:"status"`
	PreviousKeyID string         `json:"previousKeyId"`
	NewKeyID      string         `json:"newKeyId"`
	ItemsToRotate map[string]int `json:"itemsToRotate"`
	ItemsRotated  map[string]int `json:"itemsRotated"`
	ItemsFailed   int            `json:"itemsFailed"`
}

func total(counts map[string]int) int {
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum
}

// rotate runs the document's curl command with its placeholders filled in.
func (d *demonstration) rotate(ctx context.Context) (rotation, error) {
	options := [][2]string{
		{"--request", "POST"},
		{"--url", d.stack.ProxyURL() + "/api/v1/admin/dek/rotate"},
		{"--header", "accept: application/json"},
		{"--header", "authorization: Bearer " + d.jwt},
		{"--header", "content-type: application/json"},
		{"--header", "x-tenantid: " + tenantID},
		{"--data", "{\n    \"tenantId\": \"" + tenantID + "\"\n  }"},
	}
	var args, lines []string
	for _, o := range options {
		args = append(args, o[:]...)
		lines = append(lines, o[0]+" "+strings.ReplaceAll(shown(o[1], d.jwt), "\n", "\n   "))
	}
	fmt.Printf("   curl %s\n\n", strings.Join(lines, " \\\n     "))

	var answer struct {
		Success bool     `json:"success"`
		Data    rotation `json:"data"`
	}
	body, err := curl(ctx, args)
	if err != nil {
		return rotation{}, err
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return rotation{}, fmt.Errorf("the proxy's answer: %w", err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, bytes.TrimSpace(body), "   ", "  "); err != nil {
		return rotation{}, fmt.Errorf("the proxy's answer: %w", err)
	}
	fmt.Printf("   %s\n\n", pretty.Bytes())
	counts := answer.Data.ItemsToRotate
	if !answer.Success || counts["credentials"] != 25 || counts["apiKeys"] != 10 || counts["secrets"] != 50 {
		return rotation{}, errors.New("the answer does not announce the rotation of 25 credentials, 10 API keys and 50 secrets")
	}
	return answer.Data, nil
}

// shown is an argument as one would type it, without the token.
func shown(arg, token string) string {
	if strings.Contains(arg, token) {
		return `"` + strings.Replace(arg, token, "$ACCESS_TOKEN", 1) + `"`
	}
	if arg == "POST" {
		return arg
	}
	return quote(arg)
}

// curl runs curl, untouched by the user's configuration and proxies, and
// returns the body of the answer, which must be 200.
func curl(ctx context.Context, args []string) ([]byte, error) {
	args = append([]string{
		"--disable", "--noproxy", "*", "--silent", "--show-error", "--write-out", "\n%{http_code}",
	}, args...)
	cmd := exec.CommandContext(ctx, "curl", args...) // #nosec G204 -- no shell
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("curl: %w", err)
	}
	end := bytes.LastIndexByte(out, '\n')
	if body, code := out[:max(end, 0)], out[end+1:]; string(code) != "200" {
		return nil, fmt.Errorf("curl: the proxy answered %s: %s", code, bytes.TrimSpace(body))
	}
	return out[:end], nil
}
