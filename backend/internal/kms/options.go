// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kms

import wrapping "github.com/hashicorp/go-kms-wrapping/v2"

// contextOption is an option of this package: go-kms-wrapping's are closures that return
// what the wrapper knows.
type contextOption map[string]string

// WithContext says in names and values what [wrapping.WithAad] says in bytes, for the
// services whose associated data are a map.
func WithContext(with map[string]string) wrapping.Option {
	return func() any { return contextOption(with) }
}

// contextOf returns the map of WithContext.
func contextOf(opt []wrapping.Option) (map[string]string, error) {
	for _, o := range opt {
		if with, ok := o().(contextOption); ok {
			return with, nil
		}
	}
	return nil, invalid("the context is missing")
}

// aadOf returns the bytes of [wrapping.WithAad].
func aadOf(opt []wrapping.Option) ([]byte, error) {
	var shared []wrapping.Option
	for _, o := range opt {
		if _, ours := o().(contextOption); !ours {
			shared = append(shared, o)
		}
	}
	opts, err := wrapping.GetOpts(shared...)
	if err != nil {
		return nil, err
	}
	return opts.WithAad, nil
}
