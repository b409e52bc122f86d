// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// checkpointEvery is how often a checkpoint is written at most. What a killed
// command loses by it is looked at again.
const checkpointEvery = 500 * time.Millisecond

// checkpoint says how far a command has come, for the next one to go on. P is how the
// command counts.
type checkpoint[P any] struct {
	Job      string `json:"job"` // what is done: another job's checkpoint is refused
	Progress P      `json:"progress"`

	path string
	last time.Time
}

// openCheckpoint reads the checkpoint at path; with an empty path there is none.
func openCheckpoint[P any](path, job string) (*checkpoint[P], error) {
	c := &checkpoint[P]{Job: job, path: path}
	if path == "" {
		return c, nil
	}
	text, err := os.ReadFile(path) // #nosec G304 -- what the user names
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	var before checkpoint[P]
	if err := json.Unmarshal(text, &before); err != nil {
		return nil, usage("%s is no checkpoint", path)
	}
	if before.Job != job {
		return nil, usage("%s is the checkpoint of %s", path, before.Job)
	}
	c.Progress = before.Progress
	return c, nil
}

// save keeps the progress, if the last time is long enough ago.
func (c *checkpoint[P]) save(p P) error {
	c.Progress = p
	if c.path == "" || time.Since(c.last) < checkpointEvery {
		return nil
	}
	return c.flush()
}

// flush writes the progress.
func (c *checkpoint[P]) flush() error {
	if c.path == "" {
		return nil
	}
	c.last = time.Now()
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return writeWhole(c.path, 0o600, true, func(f *os.File) error {
		_, err := f.Write(text)
		return err
	})
}

// remove ends the job.
func (c *checkpoint[P]) remove() error {
	if c.path == "" {
		return nil
	}
	if err := os.Remove(c.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the checkpoint: %w", err)
	}
	return nil
}
