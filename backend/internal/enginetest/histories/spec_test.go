// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package histories

import "net/http"

// action is what a request asks for, seen from one item.
type action string

const (
	put     action = "put"
	create  action = "put with cas=0"
	remove  action = "remove"
	read    action = "read"
	list    action = "list"
	makes   action = "create the tenant"
	destroy action = "delete the tenant at once"
	deletes action = "delete the tenant with a window"
	restore action = "restore the tenant"
	// repeats sends a deletion once more whose answer was seen.
	repeats action = "repeat a deletion"
)

// input is a request.
type input struct {
	act   action
	value string
	again bool // it was sent before, with the same ID
}

// output is an answer. Where there was none, or it says that something failed, the request
// may have taken effect, and still may.
type output struct {
	unknown  bool
	refused  int // the status that refuses the request, 0 if it was served
	noTenant bool
	value    string // empty: there is none
	revision int
}

// life is what becomes of a tenant.
type life int

const (
	none life = iota
	active
	deleting // can be restored
	// doomed is to be destroyed at once by a request that was not answered, or lost against
	// one that restores it. It may be destroyed at any time, and be restored until then.
	doomed
)

// state is an item with its tenant.
type state struct {
	life     life
	value    string // empty: there is none
	revision int
}

func (s state) written(value string) state { return state{s.life, value, s.revision + 1} }

// step returns the states in which a request with that answer may leave a state: none, if
// it can't have had that answer.
func step(s state, in input, out output) []state {
	if s.life != doomed {
		return stepSettled(s, in, out)
	}
	next := stepSettled(state{}, in, out)
	for _, n := range stepSettled(state{deleting, s.value, s.revision}, in, out) {
		if n.life == deleting && in.act != deletes {
			n.life = doomed
		}
		next = append(next, n)
	}
	return next
}

func stepSettled(s state, in input, out output) []state {
	switch in.act {
	case put, create, remove, read, list:
		if possible, next := stepItem(s, in, out); possible {
			return []state{next}
		}
		return nil
	case repeats:
		return []state{s} // the engine deletes nothing more, even if it answers with an error
	default:
		return stepTenant(s, in, out)
	}
}

func stepItem(s state, in input, out output) (possible bool, next state) {
	present := s.value != ""
	switch {
	case s.life == none && (in.act == read || in.act == list || out.refused == http.StatusNotFound):
		return out.value == "", s // whether it is the tenant that is not there, or the item
	case s.life != active:
		return out.noTenant || out.unknown, s
	case out.noTenant:
		return false, s
	case in.act == read:
		return out.value == s.value && out.revision == s.revision, s
	case in.act == list:
		return (out.value != "") == present, s
	case in.act == remove && out.refused != 0:
		return !present, s
	case in.act == remove:
		return present || out.unknown, state{life: active}
	case out.refused != 0:
		return in.act == create && present, s
	case in.again && s.value == in.value && (out.unknown || out.revision == s.revision):
		return true, s // it is recognized
	case in.act == create && present:
		return out.unknown, s
	}
	next = s.written(in.value)
	return out.unknown || out.revision == next.revision, next
}

func stepTenant(s state, in input, out output) []state {
	if in.act == destroy && s.life != none && (out.unknown || out.refused != 0) {
		// It may have begun: until it is answered, or for ever if it is not.
		return []state{{}, s, {doomed, s.value, s.revision}}
	}
	if out.noTenant || out.refused != 0 {
		if s.life == active && (out.noTenant || in.act == makes) {
			return nil
		}
		return []state{s}
	}
	next := s
	switch {
	case in.act == makes && s.life == none:
		next = state{life: active}
	case in.act == destroy && out.value != "" && s.life != none:
		next.life = doomed
	case in.act == destroy:
		next = state{}
	case in.act == deletes && s.life != none:
		next.life = deleting
	case in.act == restore && s.life != none:
		next.life = active
	case s.life == active || out.unknown:
	case !in.again:
		return nil // there is nothing that it could be of
	}
	if in.again && (in.act == destroy || in.act == deletes) {
		return []state{next, s} // what it asks for may have been done before
	}
	return []state{next}
}
