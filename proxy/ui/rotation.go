// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

// rotation is GET /ui/tenants/{tenant}/rotations/{id}.
func (s *site) rotation(v *visit) error {
	id, err := v.part("tenant", uuidForm)
	if err != nil {
		return err
	}
	rotationID, err := v.part("id", rotationForm)
	if err != nil {
		return err
	}
	at := pathsOf(id)
	if err := v.require(at.rotations+"/"+rotationID, "read"); err != nil {
		return err
	}
	var r rotation
	if err := v.get(at.rotations+"/"+rotationID, nil, &r); err != nil {
		return err
	}
	return v.show("rotation", text("rotation.title", rotationID), &r)
}
