// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence

// newDetail returns an empty detail of a type, nil for a type that is not known.
func newDetail(eventType string) Detail {
	if empty, known := details[eventType]; known {
		return empty()
	}
	return nil
}

var details = map[string]func() Detail{
	TypeLogStarted:              func() Detail { return new(LogStarted) },
	TypeTenantCreated:           func() Detail { return new(TenantCreated) },
	TypeTenantDeletionScheduled: func() Detail { return new(TenantDeletionScheduled) },
	TypeTenantRestored:          func() Detail { return new(TenantRestored) },
	TypeTenantShredded:          func() Detail { return new(TenantShredded) },
	TypeRotationStarted:         func() Detail { return new(RotationStarted) },
	TypeRotationCompleted:       func() Detail { return new(RotationCompleted) },
	TypeRotationRolledBack:      func() Detail { return new(RotationRolledBack) },
	TypeRotationFailed:          func() Detail { return new(RotationFailed) },
	TypeKeyImported:             func() Detail { return new(KeyImported) },
	TypeKeyDestroyed:            func() Detail { return new(KeyDestroyed) },
	TypeKEKRotated:              func() Detail { return new(KEKRotated) },
	TypeProviderChanged:         func() Detail { return new(ProviderChanged) },
	TypeProviderDenied:          func() Detail { return new(ProviderDenied) },
	TypeHolderChanged:           func() Detail { return new(HolderChanged) },
	TypeMinimumChanged:          func() Detail { return new(MinimumChanged) },
	TypeSettingsChanged:         func() Detail { return new(SettingsChanged) },
	TypeEvidenceKeyRotated:      func() Detail { return new(LogKeyRotated) },
}

// Type is log-started.
func (*LogStarted) Type() string { return TypeLogStarted }

// Type is tenant-created.
func (*TenantCreated) Type() string { return TypeTenantCreated }

// Type is tenant-deletion-scheduled.
func (*TenantDeletionScheduled) Type() string { return TypeTenantDeletionScheduled }

// Type is tenant-restored.
func (*TenantRestored) Type() string { return TypeTenantRestored }

// Type is tenant-shredded.
func (*TenantShredded) Type() string { return TypeTenantShredded }

// Type is rotation-started.
func (*RotationStarted) Type() string { return TypeRotationStarted }

// Type is rotation-completed.
func (*RotationCompleted) Type() string { return TypeRotationCompleted }

// Type is rotation-rolled-back.
func (*RotationRolledBack) Type() string { return TypeRotationRolledBack }

// Type is rotation-failed.
func (*RotationFailed) Type() string { return TypeRotationFailed }

// Type is key-imported.
func (*KeyImported) Type() string { return TypeKeyImported }

// Type is key-destroyed.
func (*KeyDestroyed) Type() string { return TypeKeyDestroyed }

// Type is kek-rotated.
func (*KEKRotated) Type() string { return TypeKEKRotated }

// Type is provider-changed.
func (*ProviderChanged) Type() string { return TypeProviderChanged }

// Type is provider-denied.
func (*ProviderDenied) Type() string { return TypeProviderDenied }

// Type is holder-changed.
func (*HolderChanged) Type() string { return TypeHolderChanged }

// Type is minimum-changed.
func (*MinimumChanged) Type() string { return TypeMinimumChanged }

// Type is settings-changed.
func (*SettingsChanged) Type() string { return TypeSettingsChanged }

// Type is evidence-key-rotated.
func (*LogKeyRotated) Type() string { return TypeEvidenceKeyRotated }

func (d *LogStarted) subjects() []string            { return []string{d.OrgID} }
func (d *TenantCreated) subjects() []string         { return []string{d.KeyID} }
func (*TenantDeletionScheduled) subjects() []string { return nil }
func (*TenantRestored) subjects() []string          { return nil }
func (*TenantShredded) subjects() []string          { return nil }
func (d *Rotation) subjects() []string              { return []string{d.PreviousKeyID, d.NewKeyID} }
func (d *KeyImported) subjects() []string           { return []string{d.KeyID} }
func (d *KeyDestroyed) subjects() []string          { return []string{d.KeyID} }
func (d *KEKRotated) subjects() []string            { return []string{d.PreviousKeyID, d.NewKeyID} }
func (d *ProviderChanged) subjects() []string       { return []string{d.Provider} }
func (d *ProviderDenied) subjects() []string        { return []string{d.KeyID} }
func (d *HolderChanged) subjects() []string         { return []string{d.Holder} }
func (*MinimumChanged) subjects() []string          { return nil }
func (d *SettingsChanged) subjects() []string       { return []string{d.Path} }
func (d *LogKeyRotated) subjects() []string         { return []string{d.New} }
