// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencecmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/evidencetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/evidencecmd"
)

// server answers the paths of evidence as the engine does, of a log in memory.
type server struct {
	t   *testing.T
	log *evidencetest.Log
	// registered are the witnesses whose cosignatures it takes.
	registered []string
	// hidden says that the token may not read them.
	hidden   bool
	cosigned []string
	reads    atomic.Int64
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.reads.Add(1)
	path := strings.TrimPrefix(r.URL.Path, "/v1/dek/evidence/")
	files := s.log.Files(s.t)
	if name, raw := strings.CutPrefix(path, "tlog/"); raw {
		file, found := files[name]
		if !found {
			http.Error(w, "{\"errors\":[]}", http.StatusNotFound)
			return
		}
		_, _ = w.Write(file.Data)
		return
	}
	data := map[string]any{}
	switch {
	case path == "key":
		keys := strings.Fields(string(files["keys"].Data))
		data["vkey"], data["previous"] = keys[0], keys[1:]
	case path == "checkpoint":
		data["checkpoint"] = string(files["checkpoint"].Data)
	case path == "witnesses" && s.hidden:
		http.Error(w, `{"errors":["permission denied"]}`, http.StatusForbidden)
		return
	case path == "witnesses":
		data["witnesses"] = s.registered
	case path == "cosign":
		s.cosign(w, r)
		return
	case strings.HasPrefix(path, "entries/"):
		index, _ := strconv.ParseInt(strings.TrimPrefix(path, "entries/"), 10, 64)
		size, _ := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
		proof, err := tlog.ProveRecord(size, index, s.log)
		if err != nil {
			http.Error(w, "{\"errors\":[]}", http.StatusNotFound)
			return
		}
		data["proof"] = evidence.FormatProof(index, proof, s.log.Checkpoint(s.t, size))
	default:
		http.Error(w, "{\"errors\":[]}", http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
}

// cosign takes the cosignature of a registered witness, as the engine does.
func (s *server) cosign(w http.ResponseWriter, r *http.Request) {
	var body map[string]string
	_ = json.NewDecoder(r.Body).Decode(&body)
	for _, vkey := range s.registered {
		text := append(s.log.Checkpoint(s.t, int64(len(s.log.Leaves))), body["cosignature"]...)
		if evidence.CheckCosignature(text, vkey) == nil {
			s.cosigned = append(s.cosigned, body["cosignature"])
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	http.Error(w, `{"errors":["cosignature must have signature lines of witnesses for a checkpoint that is kept"]}`, http.StatusBadRequest)
}

// dek runs a command against a log.
type dek struct {
	t      *testing.T
	server *server
	url    string
	json   bool
}

func newDek(t *testing.T, log *evidencetest.Log) *dek {
	t.Helper()
	s := &server{t: t, log: log}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return &dek{t: t, server: s, url: h.URL}
}

func (d *dek) run(args ...string) (string, error) {
	d.t.Helper()
	cmd := evidencecmd.Command(evidencecmd.Env{
		Client: func() (*api.Client, error) {
			config := api.DefaultConfig()
			config.Address = d.url
			return api.NewClient(config)
		},
		Mount: func() string { return "dek" },
		JSON:  func() bool { return d.json },
		Now:   func() time.Time { return evidencetest.GoodUntil },
	})
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage = true
	cmd.SilenceErrors = true
	err := cmd.ExecuteContext(d.t.Context())
	return out.String(), err
}

func TestVerifyFromVaultAndFromFiles(t *testing.T) {
	log := evidencetest.GoodStory(t, 25)
	d := newDek(t, log)
	dir := t.TempDir()
	out, err := d.run("export", dir)
	require.NoError(t, err)
	require.Contains(t, out, fmt.Sprintf("%d entries", len(log.Leaves)))
	kept := filepath.Join(t.TempDir(), "kept")
	require.NoError(t, os.WriteFile(kept, log.Checkpoint(t, 50), 0o600))
	fromShell := filepath.Join(t.TempDir(), "kept") // $(…) takes the last line feed away
	require.NoError(t, os.WriteFile(fromShell, bytes.TrimSuffix(log.Checkpoint(t, 50), []byte("\n")), 0o600))

	for _, from := range [][]string{nil, {dir}} {
		out, err := d.run(append([]string{"verify"}, from...)...)
		require.ErrorIs(t, err, evidencecmd.ErrUntrusted)
		require.Contains(t, out, "holds: The 331 entries make the root hash")
		for _, trust := range [][]string{{"--vkey", log.VKey()}, {"--checkpoint", kept}, {"--checkpoint", fromShell}} {
			out, err := d.run(append(append([]string{"verify"}, from...), trust...)...)
			require.NoError(t, err, out)
			require.NotContains(t, out, "BROKEN")
		}
		_, err = d.run(append([]string{"verify", "--vkey", log.SignedBy("stranger").VKey()}, from...)...)
		require.ErrorIs(t, err, evidencecmd.ErrBroken)
	}

	d.json = true
	out, err = d.run("verify", dir, "--vkey", log.VKey())
	require.NoError(t, err)
	var result struct {
		Size    int64
		Trusted bool
		Holds   []struct{ Code, Text string }
		Broken  []any
	}
	require.NoError(t, json.Unmarshal([]byte(out), &result))
	require.EqualValues(t, 331, result.Size)
	require.True(t, result.Trusted)
	require.NotEmpty(t, result.Holds)
	require.Empty(t, result.Broken)

	// A damaged export fails.
	bundle := filepath.Join(dir, "tile", "entries", "000")
	data, err := os.ReadFile(bundle)
	require.NoError(t, err)
	data[700] ^= 1
	require.NoError(t, os.WriteFile(bundle, data, 0o600))
	_, err = d.run("verify", dir, "--vkey", log.VKey())
	require.ErrorIs(t, err, evidencecmd.ErrBroken)
}

// A checkpoint that lies in the export vouches for nothing, by whatever name it is given.
func TestCheckpointOfTheExportItself(t *testing.T) {
	log := evidencetest.GoodStory(t, 3)
	d := newDek(t, log)
	parent := t.TempDir()
	dir := filepath.Join(parent, "[export]")
	_, err := d.run("export", dir)
	require.NoError(t, err)
	in, out := func(name string) string { return filepath.Join(dir, name) }, func(name string) string { return filepath.Join(parent, name) }
	size := int64(len(log.Leaves))
	require.NoError(t, os.MkdirAll(in("checkpoints"), 0o700))
	require.NoError(t, os.MkdirAll(in("more"), 0o700))
	for name, n := range map[string]int64{
		in("cosigned"): size, in("checkpoints/5"): 5, in("more/kept"): 7, out("kept"): size, out("checkpoint"): 9,
	} {
		require.NoError(t, os.WriteFile(name, log.Checkpoint(t, n), 0o600))
	}
	require.NoError(t, os.Symlink(in("checkpoint"), out("symlink")))
	require.NoError(t, os.Link(in("checkpoint"), out("hard")))
	require.NoError(t, os.Link(in("checkpoints/5"), out("hard5")))
	require.NoError(t, os.Symlink(dir, out("alias")))
	require.NoError(t, os.Symlink(out("kept"), in("leads out")))
	for _, c := range []struct {
		dir, kept string
		more      []string
		want      error
	}{
		{dir, in("checkpoint"), nil, evidencecmd.ErrUntrusted},
		{dir, in("cosigned"), nil, evidencecmd.ErrUntrusted},
		{dir, in("checkpoints/5"), nil, evidencecmd.ErrUntrusted},
		{dir, in("more/kept"), nil, evidencecmd.ErrUntrusted},
		{dir, in("leads out"), nil, evidencecmd.ErrUntrusted},
		{dir, dir + "/more/../checkpoint", nil, evidencecmd.ErrUntrusted},
		{dir, out("alias/checkpoint"), nil, evidencecmd.ErrUntrusted},
		{out("alias"), in("checkpoint"), nil, evidencecmd.ErrUntrusted},
		{dir, out("symlink"), nil, evidencecmd.ErrUntrusted},
		{dir, out("hard"), nil, evidencecmd.ErrUntrusted},
		{dir, out("hard5"), nil, evidencecmd.ErrUntrusted},
		{dir, in("checkpoint"), []string{"--vkey", log.VKey()}, nil},
		{dir, out("kept"), nil, nil},
		{dir, out("checkpoint"), nil, nil},
	} {
		for _, command := range []string{"verify", "report"} {
			_, err := d.run(append([]string{command, c.dir, "--checkpoint", c.kept}, c.more...)...)
			require.ErrorIs(t, err, c.want, "%s %s --checkpoint %s", command, c.dir, c.kept)
			if c.want != nil {
				require.ErrorContains(t, err, "("+c.kept+" is of the export itself)")
			}
		}
	}
	t.Chdir(dir)
	_, err = d.run("verify", ".", "--checkpoint", "checkpoint")
	require.ErrorIs(t, err, evidencecmd.ErrUntrusted)
}

func TestExportGoesOn(t *testing.T) {
	log := evidencetest.GoodStory(t, 25)
	d := newDek(t, log)
	dir := t.TempDir()
	_, err := d.run("export", dir)
	require.NoError(t, err)
	first := d.server.reads.Swap(0)
	s := evidencetest.Story{T: t, Log: log}
	s.Create(70, evidencetest.GoodUntil)
	_, err = d.run("export", dir)
	require.NoError(t, err)
	require.Less(t, d.server.reads.Load(), first, "what is there is not read again")
	_, err = d.run("verify", dir, "--vkey", log.VKey())
	require.NoError(t, err)

	// A log that went back, or goes on otherwise, replaces nothing.
	before := filesIn(t, dir)
	shorter := evidencetest.NewLog(1)
	for _, leaf := range log.Leaves[:100] {
		shorter.AddLeaf(t, leaf)
	}
	d.server.log = shorter
	_, err = d.run("export", dir)
	require.ErrorContains(t, err, "does not go on from the one that was exported before")
	other := evidencetest.NewLog(1)
	for i, leaf := range log.Leaves {
		if i != 80 {
			other.AddLeaf(t, leaf)
		}
	}
	for _, leaf := range log.Leaves[:50] {
		other.AddLeaf(t, leaf)
	}
	d.server.log = other
	_, err = d.run("export", dir)
	require.ErrorContains(t, err, "does not go on from the one that was exported before")
	after := filesIn(t, dir)
	for name, data := range before {
		require.Equal(t, data, after[name], name)
	}
	_, err = d.run("verify", dir, "--vkey", log.VKey())
	require.NoError(t, err)
}

func filesIn(t *testing.T, dir string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var data []byte
			data, err = os.ReadFile(filepath.Join(dir, path))
			files[path] = &fstest.MapFile{Data: data}
		}
		return err
	}))
	return files
}

func TestReportCommand(t *testing.T) {
	log := evidencetest.GoodStory(t, 3)
	d := newDek(t, log)
	file := filepath.Join(t.TempDir(), "report.html")
	_, err := d.run("report", "--vkey", log.VKey(), "-o", file)
	require.NoError(t, err)
	page, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(page), "c2sp.org/tlog-proof@v1")
	out, err := d.run("report", "--vkey", log.VKey(), "--format", "csv", "--from", "2026-03-01", "--to", "2026-04-30")
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(out, "\nrotation,"))
	out, err = d.run("report", "--format", "json", "--tenant", evidencetest.ID(1))
	require.ErrorIs(t, err, evidencecmd.ErrUntrusted)
	require.True(t, json.Valid([]byte(out)))
	for _, args := range [][]string{
		{"--format", "pdf"},
		{"--from", "yesterday"},
		{"--from", "2026-02-01", "--to", "2026-01-01"},
		{"--checkpoint", "/does/not/exist"},
		{"--vkey", "a+b"},
		{"--witness", "a+b"},
		{"--witness", "witness.example+deadbeef+BGG3op9v3HIXXDPBmFc/0CioJHhGCXc+pyvvFPlBZdYO"}, // not its key hash
		{"--tenant", "acme"},
		{"/does/not/exist"},
	} {
		_, err = d.run(append([]string{"report"}, args...)...)
		require.ErrorIs(t, err, evidencecmd.ErrUsage, args)
	}
}

// Nothing is reported about a tenant that the log does not know.
func TestReportOfATenant(t *testing.T) {
	log := evidencetest.GoodStory(t, 3)
	damaged := evidencetest.NewLog(1)
	for i, leaf := range log.Leaves {
		if i != 20 {
			damaged.AddLeaf(t, leaf)
		}
	}
	unknown, known := evidencetest.ID(77), evidencetest.ID(1)
	for name, c := range map[string]struct {
		log    *evidencetest.Log
		tenant string
		args   []string
		want   error
		text   string
		writes bool
	}{
		"known":                 {log, known, []string{"--vkey", log.VKey()}, nil, "", true},
		"in capitals":           {log, strings.ToUpper(known), []string{"--vkey", log.VKey()}, nil, "", true},
		"not in that time":      {log, known, []string{"--vkey", log.VKey(), "--to", "2001-01-01"}, nil, "", true},
		"unknown":               {log, unknown, []string{"--vkey", log.VKey()}, evidencecmd.ErrNoEntry, "the log has no entry about tenant " + unknown, false},
		"unknown, in capitals":  {log, strings.ToUpper(unknown), []string{"--vkey", log.VKey()}, evidencecmd.ErrNoEntry, unknown, false},
		"unknown, untrusted":    {log, unknown, nil, evidencecmd.ErrNoEntry, unknown, false},
		"unknown, of a bad log": {damaged, unknown, []string{"--vkey", log.VKey()}, evidencecmd.ErrBroken, "the report has", true},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDek(t, c.log)
			for _, format := range []string{"html", "csv", "json"} {
				file := filepath.Join(t.TempDir(), "report")
				_, err := d.run(append([]string{"report", "--tenant", c.tenant, "--format", format, "-o", file}, c.args...)...)
				require.ErrorIs(t, err, c.want)
				if c.want != nil {
					require.ErrorContains(t, err, c.text)
				}
				_, err = os.Stat(file)
				require.Equal(t, c.writes, err == nil)
			}
		})
	}
}

func TestWitnessCommand(t *testing.T) {
	log := evidencetest.GoodStory(t, 3)
	d := newDek(t, log)
	key := filepath.Join(t.TempDir(), "witness.key")
	_, err := d.run("witness")
	require.ErrorIs(t, err, evidencecmd.ErrUsage)
	_, err = d.run("witness", "--key", key)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, err, evidencecmd.ErrUsage)
	out, err := d.run("witness", "--key", key, "--name", "w.example")
	require.ErrorIs(t, err, evidencecmd.ErrUnregistered)
	_, vkey, _ := strings.Cut(strings.TrimSpace(out), "evidence/witnesses: ")
	require.EqualError(t, err, "this witness is not among evidence/witnesses yet: add "+vkey)
	d.server.registered = []string{vkey}
	out, err = d.run("witness", "--key", key, "--name", "w.example")
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(out, " as "+vkey+"\n"), out)
	require.NotContains(t, out, "made", "the key is that of before")
	info, err := os.Stat(key)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	cosigned := func() []byte {
		size := int64(len(log.Leaves))
		return append(log.Checkpoint(t, size), d.server.cosigned[len(d.server.cosigned)-1]...)
	}
	require.NoError(t, evidence.CheckCosignature(cosigned(), vkey))

	s := evidencetest.Story{T: t, Log: log}
	s.Create(70, evidencetest.GoodUntil)
	_, err = d.run("witness", "--key", key)
	require.NoError(t, err)
	require.NoError(t, evidence.CheckCosignature(cosigned(), vkey))
	require.Len(t, d.server.cosigned, 2)

	// It cosigns no log that went back, forked, or that another key signed.
	shorter := evidencetest.NewLog(1)
	for _, leaf := range log.Leaves[:20] {
		shorter.AddLeaf(t, leaf)
	}
	forked := evidencetest.NewLog(1)
	for _, leaf := range append(log.Leaves[1:], log.Leaves...) {
		forked.AddLeaf(t, leaf)
	}
	for name, other := range map[string]*evidencetest.Log{"shorter": shorter, "forked": forked} {
		d.server.log = other
		_, err = d.run("witness", "--key", key)
		require.ErrorIs(t, err, evidencecmd.ErrInconsistent, name)
	}
	d.server.log = log.SignedBy("stranger")
	_, err = d.run("witness", "--key", key, "--vkey", log.VKey())
	require.ErrorIs(t, err, evidence.ErrSignature)
	require.Len(t, d.server.cosigned, 2)
}

// The verifier key is told before anything that can fail, since it is registered first.
func TestNewWitnessIsTold(t *testing.T) {
	log := evidencetest.GoodStory(t, 3)
	for name, c := range map[string]struct {
		json   bool
		change func(*dek)
		text   string
	}{
		"not registered":          {change: func(*dek) {}, text: "this witness is not among evidence/witnesses yet: add w.example+"},
		"not registered, in JSON": {json: true, change: func(*dek) {}, text: "this witness is not among evidence/witnesses yet: add w.example+"},
		"another is registered": {change: func(d *dek) {
			d.server.registered = []string{"witness.example+9d8c69db+BGG3op9v3HIXXDPBmFc/0CioJHhGCXc+pyvvFPlBZdYO"}
		}, text: "this witness is not among evidence/witnesses yet: add w.example+"},
		"they cannot be read": {
			change: func(d *dek) { d.server.hidden = true },
			text:   "the server refuses the cosignature: cosignature must have signature lines of witnesses",
		},
		"there is no server": {json: true, change: func(d *dek) { d.url = "http://127.0.0.1:1" }, text: "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDek(t, log)
			d.json = c.json
			c.change(d)
			key := filepath.Join(t.TempDir(), "witness.key")
			out, err := d.run("witness", "--key", key, "--name", "w.example")
			require.ErrorContains(t, err, c.text)
			require.NotContains(t, err.Error(), "URL: PUT", "what Vault's client says of a request")
			text, err := os.ReadFile(key)
			require.NoError(t, err)
			vkey := strings.Fields(string(text))[1]
			if !c.json {
				require.Equal(t, "made "+key+"; add its verifier key to evidence/witnesses: "+vkey+"\n", out)
				return
			}
			var line struct{ Key, VKey string }
			require.NoError(t, json.Unmarshal([]byte(out), &line))
			require.Equal(t, key, line.Key)
			require.Equal(t, vkey, line.VKey)
		})
	}
}
