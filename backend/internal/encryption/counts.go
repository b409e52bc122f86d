// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption

import "sync/atomic"

// The paths for callers, as counts name them.
const (
	pathEncrypt = "encrypt"
	pathDecrypt = "decrypt"
	pathRewrap  = "rewrap"
	pathDataKey = "datakey"
)

// Counts counts texts since the engine started. A text that was opened and sealed anew
// counts as both.
type Counts struct{ Sealed, Opened, Refused int64 }

// counter counts the texts of one path.
type counter struct{ sealed, opened, refused atomic.Int64 }

// counters counts the texts of each path.
type counters struct{ encrypt, decrypt, rewrap, dataKey counter }

// Counts returns what each path has done.
func (e *Engine) Counts() map[string]Counts {
	c := &e.counters
	return map[string]Counts{
		pathEncrypt: c.encrypt.counts(), pathDecrypt: c.decrypt.counts(), pathRewrap: c.rewrap.counts(), pathDataKey: c.dataKey.counts(),
	}
}

func (c *counter) counts() Counts { return Counts{c.sealed.Load(), c.opened.Load(), c.refused.Load()} }

// addSealed counts the outcomes of a request that sealed.
func (c *counter) addSealed(all []Sealed) {
	var sealed, refused int64
	for i := range all {
		switch {
		case all[i].Err != nil:
			refused++
		case all[i].Changed:
			sealed++
		}
	}
	c.sealed.Add(sealed)
	c.refused.Add(refused)
}

// addOpened counts the outcomes of a request that opened.
func (c *counter) addOpened(all []Opened) {
	var opened, refused int64
	for i := range all {
		if all[i].Err != nil {
			refused++
		} else {
			opened++
		}
	}
	c.opened.Add(opened)
	c.refused.Add(refused)
}
