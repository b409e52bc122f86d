// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package report

// A Control is a requirement of a standard, and what of the report answers it.
type Control struct {
	ID       string `json:"id"`
	Standard string `json:"standard"`
	Asks     string `json:"asks"`
	Answer   string `json:"answer"`
}

var controls = []Control{
	{
		"3.7.4", "PCI DSS 4.0.1", "Keys are changed at the end of their cryptoperiod.",
		"Each tenant's interval, its rotations and the age of its active key; what was late, and by how much.",
	},
	{
		"3.7.5", "PCI DSS 4.0.1", "Keys are retired, replaced or destroyed when they are no longer needed or may be known to others.",
		"Each replaced key with the pages that were left on it (0), and when, why and by whom it was destroyed.",
	},
	{
		"CC6.1", "SOC 2", "Logical access to protected information is restricted; keys are protected through their life.",
		"Creation, rotation and destruction of each tenant's key, with who asked for it.",
	},
	{
		"A.8.24", "ISO/IEC 27001:2022", "Rules for the use of cryptography, key management included, are in effect.",
		"The rotation interval of each tenant and whether it was kept.",
	},
	{
		"SP 800-88r2", "NIST", "Sanitization is verified and certified.",
		"A certificate of erasure for each tenant that was shredded.",
	},
}
