// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlotIsWellFormedAndLogarithmic(t *testing.T) {
	svg := plot("Title", []bar{{"one", 100, "#111111"}, {"two", 1000, "#222222"}, {"three", 10_000, "#333333"}})
	var widths []float64
	decoder := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "rect" {
			continue
		}
		var rect struct {
			Width string `xml:"width,attr"`
		}
		require.NoError(t, decoder.DecodeElement(&rect, &start))
		if rect.Width != "100%" {
			w, err := strconv.ParseFloat(rect.Width, 64)
			require.NoError(t, err)
			widths = append(widths, w)
		}
	}
	require.Len(t, widths, 3)
	require.Positive(t, widths[0])
	require.InDelta(t, widths[1]-widths[0], widths[2]-widths[1], 0.2)
	require.LessOrEqual(t, widths[2], float64(plotWidth-plotLeft-plotRight))
}

func TestBarsLeaveOutWhatWasNotMeasured(t *testing.T) {
	require.Empty(t, rotationBars(nil))
	bars := rotationBars(map[string]float64{
		"rotate_items_per_second": 100_000, "rotate_pages_per_second": 1000, "floor_pages_per_second": 1200,
	})
	require.Len(t, bars, 2)
	require.InDelta(t, 120_000, bars[1].value, 1e-6)
}

func TestGrouped(t *testing.T) {
	for v, want := range map[float64]string{1: "1", 999.6: "1,000", 12_345: "12,345", 1_000_007: "1,000,007"} {
		require.Equal(t, want, grouped(v))
	}
}
