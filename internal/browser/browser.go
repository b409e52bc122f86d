// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package browser runs a Chromium without a screen, for tests and benchmarks of the
// administrators' page.
package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Patience is how long one step in the browser may take on a busy machine.
const Patience = time.Minute

// ErrMissing says that there is no Chromium on this machine.
var ErrMissing = errors.New("a Chromium is missing (CHROME_BIN, the PATH): run scripts/chromium.sh")

// Find returns the path of the browser. It fails with [ErrMissing].
func Find() (string, error) {
	for _, name := range []string{os.Getenv("CHROME_BIN"), "chromium", "chromium-browser", "google-chrome"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrMissing
}

// Start starts a browser of somebody in Berlin, which ends with ctx or stop. The context that it
// returns is chromedp's. It fails with [ErrMissing].
func Start(ctx context.Context) (browser context.Context, stop func(), err error) {
	path, err := Find()
	if err != nil {
		return nil, nil, err
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("lang", "en-GB"),
		chromedp.WSURLReadTimeout(Patience), chromedp.Env("TZ=Europe/Berlin"))
	allocator, end := chromedp.NewExecAllocator(ctx, opts...)
	browser, leave := chromedp.NewContext(allocator)
	stop = func() {
		leave()
		end()
	}
	if err := chromedp.Run(browser); err != nil {
		stop()
		return nil, nil, fmt.Errorf("start Chromium: %w", err)
	}
	return browser, stop, nil
}

// Look is a screen and a colour scheme.
type Look struct {
	Name, Scheme  string
	Width, Height int64
}

// The looks that the page is shown in.
var (
	DesktopLight = Look{"desktop-light", "light", 1280, 900}
	DesktopDark  = Look{"desktop-dark", "dark", 1280, 900}
	PhoneLight   = Look{"phone-light", "light", 390, 844}
	PhoneDark    = Look{"phone-dark", "dark", 390, 844}
)

// Show gives a tab this look.
func (l Look) Show() chromedp.Action {
	return chromedp.Tasks{
		emulation.SetDeviceMetricsOverride(l.Width, l.Height, 1, false),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.Scheme}}),
	}
}

// tallest is the height of a picture of a long page.
const tallest = 1600

// Picture leaves a picture of a tab in the directory that DEK_SCREENSHOTS names, if it names one.
func Picture(name string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		dir := os.Getenv("DEK_SCREENSHOTS")
		if dir == "" {
			return nil
		}
		_, _, _, _, _, content, err := page.GetLayoutMetrics().Do(ctx)
		if err != nil {
			return err
		}
		clip := &page.Viewport{Width: content.Width, Height: min(content.Height, tallest), Scale: 1}
		raw, err := page.CaptureScreenshot().WithFormat(page.CaptureScreenshotFormatWebp).WithQuality(60).
			WithCaptureBeyondViewport(true).WithClip(clip).Do(ctx)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name+".webp"), raw, 0o600) // #nosec G703 -- the tester's own
	})
}
