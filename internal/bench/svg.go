// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
)

// bar is one line of the plot.
type bar struct {
	label string
	value float64
	color string
}

// The plot's measures, in pixels.
const (
	plotWidth  = 760
	plotLeft   = 300 // where the bars begin
	plotRight  = 90  // for the value beside the longest
	plotTop    = 56
	plotBottom = 34
	barHeight  = 26
	barGap     = 12
)

// writePlot draws how fast secrets are re-encrypted: by hand, by the engine, and
// at what storage allows.
func writePlot(path string, r *report) error {
	bars := rotationBars(r.values)
	if len(bars) == 0 {
		return fmt.Errorf("%s: no figure of a rotation was measured", path)
	}
	return os.WriteFile(path, plot("Secrets re-encrypted a second (logarithmic scale)", bars), 0o644) // #nosec G306 -- for all to see
}

// rotationBars leaves out what was not measured.
func rotationBars(values map[string]float64) (bars []bar) {
	itemsPerPage := values["rotate_items_per_second"] / values["rotate_pages_per_second"]
	for _, b := range []bar{
		{"By hand: KV v2 and transit rewrap", values["peer_items_per_second"], "#9aa5b1"},
		{"A tenant of 20,000 secrets", values["rotate_items_per_second_20k"], "#2f6fab"},
		{"A tenant of 100,000 secrets", values["rotate_items_per_second"], "#2f6fab"},
		{"A tenant of 1,000,000 secrets", 1e6 / values["rotate_million_seconds"], "#2f6fab"},
		{"Floor: storage alone, no cryptography", values["floor_pages_per_second"] * itemsPerPage, "#d08a2e"},
	} {
		if b.value > 0 && !math.IsInf(b.value, 0) { // NaN is not above 0 either
			bars = append(bars, b)
		}
	}
	return bars
}

// plot draws horizontal bars on a logarithmic scale of whole decades.
func plot(title string, bars []bar) []byte {
	low, high := math.Inf(1), math.Inf(-1)
	for _, b := range bars {
		low, high = min(low, math.Log10(b.value)), max(high, math.Log10(b.value))
	}
	first := math.Floor(low - 0.5) // the shortest bar is to be seen too
	last := max(math.Ceil(high), first+1)
	x := func(log float64) float64 {
		return plotLeft + (log-first)/(last-first)*(plotWidth-plotLeft-plotRight)
	}
	bottom := plotTop + len(bars)*(barHeight+barGap)
	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" `+
		`font-family="sans-serif" font-size="13" fill="#1f2933">`+"\n", plotWidth, bottom+plotBottom)
	fmt.Fprintf(&svg, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	fmt.Fprintf(&svg, `<text x="16" y="28" font-size="16" font-weight="bold">%s</text>`+"\n", title)
	for decade := first; decade <= last; decade++ {
		fmt.Fprintf(&svg, `<line x1="%[1]s" y1="%[2]d" x2="%[1]s" y2="%[3]d" stroke="#d9dfe5"/>`+"\n",
			coordinate(x(decade)), plotTop-6, bottom)
		fmt.Fprintf(&svg, `<text x="%s" y="%d" text-anchor="middle">%s</text>`+"\n",
			coordinate(x(decade)), bottom+20, grouped(math.Pow(10, decade)))
	}
	for i, b := range bars {
		y := plotTop + i*(barHeight+barGap)
		end := x(math.Log10(b.value))
		fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", plotLeft-10, y+18, b.label)
		fmt.Fprintf(&svg, `<rect x="%d" y="%d" width="%s" height="%d" fill="%s"/>`+"\n",
			plotLeft, y, coordinate(end-plotLeft), barHeight, b.color)
		fmt.Fprintf(&svg, `<text x="%s" y="%d">%s</text>`+"\n", coordinate(end+6), y+18, grouped(b.value))
	}
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

func coordinate(v float64) string { return fmt.Sprintf("%.1f", v) }

// grouped writes a number of at least 1 with commas between thousands.
func grouped(v float64) string {
	n := int64(math.Round(v))
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%s,%03d", grouped(float64(n/1000)), n%1000)
}
