// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/bench/fleet"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/browser"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

const (
	// pageMount is a mount that has a million tenants.
	pageMount  = "fleet-page"
	pagePlugin = "dek-bench-fleet"
	pageLoads  = 9
)

// pageOfAMillion measures how long a person waits for the administrators' page of a million
// tenants: Chromium, the proxy, Vault, and the engine behind it.
func pageOfAMillion(ctx context.Context, b *bench) (err error) {
	if _, err := browser.Find(); err != nil {
		return err
	}
	tenants := b.sized(1_000_000)
	if err := b.register(ctx, pagePlugin, "", fleet.PluginArg, strconv.Itoa(tenants)); err != nil {
		return err
	}
	if err := b.vault.post(ctx, "sys/mounts/"+pageMount, map[string]any{"type": pagePlugin}); err != nil {
		return err
	}
	defer func() { // or its index is read again after each start of Vault
		err = errors.Join(err, b.vault.call(context.WithoutCancel(ctx), http.MethodDelete, "sys/mounts/"+pageMount, nil, nil))
	}()
	took, err := timed(func() error { return b.waitForIndex(ctx, pageMount) })
	if err != nil {
		return err
	}
	b.notef("a mount of %d tenants has read all of them after %.0f s", tenants, took.Seconds())
	url, stop, err := b.pageProxy(ctx)
	if err != nil {
		return err
	}
	defer stop()
	return b.paint(ctx, url, tenants)
}

// waitForIndex waits until the schedule of a mount has read every record.
func (b *bench) waitForIndex(ctx context.Context, mount string) error {
	for {
		var st struct {
			Complete bool `json:"index_complete"`
		}
		if err := b.vault.call(ctx, http.MethodGet, mount+"/status", nil, &st); err != nil || st.Complete {
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// pageProxy starts a proxy of its own for the mount of the page, and returns its URL.
func (b *bench) pageProxy(ctx context.Context) (url string, stop func(), err error) {
	root, err := devstack.RepoRoot()
	if err != nil {
		return "", nil, err
	}
	listen := filepath.Join(b.dir, "page-proxy.addr")
	cmd := exec.CommandContext(ctx, filepath.Join(root, "bin", "dek-proxy"), // #nosec G204 G702 -- what make built
		"-listen", "127.0.0.1:0", "-listen-file", listen, "-mount", pageMount, "-log-level", "error")
	cmd.Env = []string{"HOME=" + b.dir, "PATH=" + os.Getenv("PATH"), "VAULT_ADDR=" + b.stack.VaultAddr()}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it says itself why it ended
		close(ended)
	}()
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	}
	for {
		if address, err := os.ReadFile(listen); err == nil { // #nosec G304 G703 -- in a directory made here
			return "http://" + strings.TrimSpace(string(address)), stop, nil
		}
		select {
		case <-ended:
			return "", nil, errors.New("the proxy of the page did not stay up")
		default:
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			stop()
			return "", nil, err
		}
	}
}

// painted is when a load of the page showed something, in milliseconds from its beginning.
type painted struct {
	Paint     float64 `json:"paint"`
	FirstByte float64 `json:"firstByte"`
	Rows      int     `json:"rows"`
	Tenants   string  `json:"tenants"`
}

// whenPainted waits for what the browser itself says of the load.
const whenPainted = `new Promise((done) => {
	const look = () => {
		const paint = performance.getEntriesByName("first-contentful-paint")[0];
		if (!paint || document.readyState !== "complete") return setTimeout(look, 5);
		done({
			paint: paint.startTime, firstByte: performance.getEntriesByType("navigation")[0].responseStart,
			rows: document.querySelectorAll("#tenants tbody tr").length, tenants: document.querySelector(".tiles dd").innerText,
		});
	};
	look();
})`

// paint signs in and loads the fleet some times. The first load is of a proxy and a browser
// that have just started.
func (b *bench) paint(ctx context.Context, url string, tenants int) error {
	tab, stop, err := browser.Start(ctx)
	if err != nil {
		return err
	}
	defer stop()
	signIn := []chromedp.Action{
		browser.DesktopLight.Show(), chromedp.Navigate(url + "/ui/settings"),
		chromedp.Click("input[name=way][value=token]", chromedp.ByQuery),
		chromedp.SetValue("input[name=token]", b.stack.RootToken(), chromedp.ByQuery),
		chromedp.Click("#sign-in button", chromedp.ByQuery), chromedp.WaitVisible("#sign-out", chromedp.ByQuery),
	}
	if err := chromedp.Run(tab, signIn...); err != nil {
		return fmt.Errorf("signing in: %w", err)
	}
	var paints, firstBytes []float64
	for range pageLoads {
		var p painted
		err := chromedp.Run(tab, chromedp.Navigate(url+"/ui/fleet"), chromedp.Evaluate(whenPainted, &p,
			func(e *runtime.EvaluateParams) *runtime.EvaluateParams { return e.WithAwaitPromise(true) }))
		if err != nil {
			return fmt.Errorf("loading the fleet: %w", err)
		}
		if shown := strings.ReplaceAll(p.Tenants, ",", ""); shown != strconv.Itoa(tenants) || p.Rows == 0 {
			return fmt.Errorf("the page shows %d rows of %s tenants", p.Rows, p.Tenants)
		}
		paints, firstBytes = append(paints, p.Paint), append(firstBytes, p.FirstByte)
	}
	b.notef("the first load was painted after %.0f ms, the slowest after %.0f ms; the first byte came after %.0f ms (median)",
		paints[0], slices.Max(paints), median(firstBytes))
	b.set("fleet_page_first_paint_ms", median(paints))
	return pictures(tab)
}

// pictures leaves pictures of what a tab shows, if they are asked for.
func pictures(tab context.Context) error {
	for _, l := range []browser.Look{browser.DesktopLight, browser.PhoneDark} {
		if err := chromedp.Run(tab, l.Show(), browser.Picture("fleet-million-"+l.Name)); err != nil {
			return fmt.Errorf("taking a picture: %w", err)
		}
	}
	return nil
}
