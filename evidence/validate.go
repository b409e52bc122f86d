// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence

import (
	"fmt"
	"reflect"
	"slices"
	"time"
	"unicode/utf8"
)

var (
	whiches = []string{WhichPage, WhichExternal, WhichPlacement, WhichKEK}
	whys    = []string{
		WhyRotation, WhyRetention, WhyRoom, WhyRollback, WhyAsked, WhyForced, WhyHolders, WhyShredding,
	}
	triggers = []string{"", "manual", "requested", "scheduled"}
)

// validate returns [ErrInvalid] with the field and the rule that it breaks.
func (e *Event) validate() error {
	if e.Detail == nil || reflect.ValueOf(e.Detail).IsNil() {
		return fmt.Errorf("%w: it has no detail", ErrInvalid)
	}
	h := &e.Head
	switch {
	case h.EventID == "":
		return fmt.Errorf("%w: event_id is empty", ErrInvalid)
	case h.Seq < 1:
		return fmt.Errorf("%w: seq counts from 1", ErrInvalid)
	case h.Time.IsZero():
		return fmt.Errorf("%w: time is missing", ErrInvalid)
	case (h.TenantID == "") != (h.Incarnation == ""):
		return fmt.Errorf("%w: tenant_id and incarnation come together", ErrInvalid)
	case h.Actor == "":
		return fmt.Errorf("%w: actor is empty", ErrInvalid)
	case !slices.Contains(triggers, h.Trigger):
		return fmt.Errorf("%w: trigger is none of manual, requested and scheduled", ErrInvalid)
	case slices.Contains(e.Detail.subjects(), "") || len(e.names()) == 0:
		return fmt.Errorf("%w: it is about something without a name", ErrInvalid)
	}
	if d, ok := e.Detail.(*KeyDestroyed); ok && (!slices.Contains(whiches, d.Which) || !slices.Contains(whys, d.Why)) {
		return fmt.Errorf("%w: which or why is not one of the known", ErrInvalid)
	}
	if err := validateValue(reflect.ValueOf(*h)); err != nil {
		return err
	}
	return validateValue(reflect.ValueOf(e.Detail).Elem())
}

// validateValue holds every value to the rules of the package comment.
func validateValue(v reflect.Value) error {
	switch v.Kind() { //nolint:exhaustive // an event has values of these kinds only
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return fmt.Errorf("%w: a text is not UTF-8", ErrInvalid)
		}
	case reflect.Int64:
		if v.Int() < 0 || v.Int() > MaxInteger {
			return fmt.Errorf("%w: a number is not from 0 to 2^53-1", ErrInvalid)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			return validateValue(v.Elem())
		}
	case reflect.Map:
		return validateMap(v)
	case reflect.Struct:
		return validateStruct(v)
	default:
		return fmt.Errorf("%w: a value of a kind that an event cannot have", ErrInvalid)
	}
	return nil
}

func validateMap(v reflect.Value) error {
	for _, key := range v.MapKeys() {
		if err := validateValue(key); err != nil {
			return err
		}
		if err := validateValue(v.MapIndex(key)); err != nil {
			return err
		}
	}
	return nil
}

func validateStruct(v reflect.Value) error {
	if t, ok := v.Interface().(time.Time); ok {
		if t.Location() != time.UTC || t.Year() < 1 || t.Year() > 9999 {
			return fmt.Errorf("%w: a time is not in UTC", ErrInvalid)
		}
		return nil
	}
	for i := range v.NumField() {
		if err := validateValue(v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}
