// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/admission"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api/encrypt"
	evidencepaths "github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api/evidence"
	providerpaths "github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api/providers"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/deletion"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/destruction"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/encryption"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/holders"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/importstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kekrotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logkeys"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/schedule"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/wrappingkey"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
)

// Version is the version that the plugin reports to Vault and that the commands print.
var Version = version.Version()

type backend struct {
	*framework.Backend
	*api.Operations

	storage     logical.Storage // for the write-ahead log
	mount       *storage.Mount
	settings    *settings.Store
	keys        *keystore.Store
	tenants     *tenant.Store
	items       *itemstore.Store
	rotations   *rotation.Engine
	kek         *kekrotation.Engine
	wrapping    *wrappingkey.Engine
	destruction *destruction.Engine
	holders     *holders.Engine
	deletion    *deletion.Engine
	encryption  *encryption.Engine
	jobs        *jobs.Runner
	pages       *jobs.Semaphore
	schedule    *schedule.Engine

	evidencePaths evidencepaths.Paths
	providerPaths providerpaths.Paths
	providers     *provider.Store
	evidence      *evidencelog.Log
	ledger        *ledger.Ledger
	limiter       jobs.Limiter
	now           func() time.Time

	intents           *intents.Log
	unreadableEntries sync.Map // of the write-ahead log, by ID, once logged

	newWrappingKey func() ([]byte, error)
}

const backendHelp = `
Keeps the secrets of a service's tenants, each tenant's under a data-encryption
key (DEK) of its own, and rotates those keys: a rotation re-encrypts everything
that the tenant has here, in the background and without downtime, and destroys
the old key when nothing depends on it any more.
`

// Factory makes the engine for one mount. It writes nothing: Vault refuses
// writes until the mount is set up.
func Factory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	return FactoryWith(Options{})(ctx, conf)
}

// FactoryWith returns a Factory of engines with other options.
func FactoryWith(opt Options) logical.Factory {
	return func(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
		engine, err := New(ctx, conf, opt)
		if err != nil {
			return nil, err
		}
		return engine.backend, nil
	}
}

func newBackend(ctx context.Context, conf *logical.BackendConfig, opt Options) (*backend, error) {
	if conf == nil || conf.StorageView == nil {
		return nil, errors.New("the backend needs a configuration with a storage")
	}
	mount := storage.NewMount(conf.StorageView)
	now := func() time.Time { return opt.Clock().UTC() }
	b := &backend{
		storage:  conf.StorageView,
		mount:    mount,
		settings: settings.NewStore(mount, conf.BackendUUID),
		tenants:  tenant.NewStore(mount),
		now:      now,

		newWrappingKey: opt.NewWrappingKey,
	}
	b.buildProviders(opt.Providers)
	mount.OnDamage(b.damaged)
	b.items = itemstore.NewStore(mount, b.settings, b.keys, b.tenants)
	b.encryption = encryption.NewEngine(encryption.Config{
		Settings: b.settings, Keys: b.keys, Tenants: b.tenants, Now: b.now, Log: b.logger,
		Tried: b.tried, NotesTry: holders.NotesTry,
	})
	b.shareMemory(settings.Config{})
	b.settings.Watch(b.shareMemory)
	b.Operations = &api.Operations{
		Check: b.checkCaller, Ready: b.settings.CheckFormat, Caller: b.initiator, Leads: b.leads,
		Bound: admission.Process(), Mount: conf.BackendUUID, Log: b.logger, Unlock: b.unlock,
		Absent: b.tenantAbsent,
	}
	b.providerPaths.Operations = b.Operations
	b.evidencePaths.Operations = b.Operations
	b.Backend = &framework.Backend{
		BackendType:    logical.TypeLogical,
		RunningVersion: Version,
		Help:           strings.TrimSpace(backendHelp),
		PathsSpecial: &logical.Paths{
			SealWrapStorage: slices.Concat(keystore.SealWrapped(), importstore.SealWrapped(), logkeys.SealWrapped(), provider.SealWrapped()),
		},
		// Patterns are tried in this order, so what is asked for most comes first.
		Paths: framework.PathAppend(
			b.itemPaths(),
			encrypt.Paths(b.Operations, b.encryption, func() { b.limiter.Touch(b.now()) }),
			b.kvPaths(),
			b.configPaths(),
			b.rotationSettingsPaths(),
			b.dekPaths(),
			b.currentDEKPaths(),
			b.versionPaths(),
			b.holderPaths(),
			b.importPaths(),
			b.rotationPaths(),
			b.statusPaths(),
			b.kekPaths(),
			b.evidencePaths.All(),
			b.providerPaths.All(),
			b.tenantPaths(),
			b.fleetPaths(),
		),
		InitializeFunc: b.initialize,
		PeriodicFunc:   b.periodic,
		Invalidate:     b.invalidate,
		Clean:          func(context.Context) { b.jobs.Stop() },
	}
	api.WrapHelp(b.Paths)
	steady := *conf
	if conf.System != nil {
		steady.System = newSteadySystem(conf.System, b.now)
	}
	if err := b.Setup(ctx, &steady); err != nil {
		return nil, err
	}
	b.build(conf.BackendUUID)
	return b, nil
}

// build makes the engines that work in the background, once the framework has set up
// the logger.
func (b *backend) build(mountUUID string) {
	b.jobs = jobs.NewRunner(b.Logger())
	b.jobs.Await, b.jobs.Ready = b.keys.Await, b.mayWork
	b.buildEvidence(mountUUID)
	b.pages = jobs.NewSemaphore(b.parallelism)
	b.destruction = destruction.NewEngine(destruction.Config{Keys: b.keys, Tenants: b.tenants, Items: b.items, Ledger: b.ledger, Now: b.now})
	b.intents = intents.New(walEntries{b.storage})
	b.rotations = rotation.NewEngine(rotation.Config{
		Settings: b.settings, Keys: b.keys, Tenants: b.tenants, Items: b.items,
		Intents: b.intents, Ledger: b.ledger, Destruction: b.destruction, Now: b.now,
		Jobs: b.jobs, Pages: b.pages, Log: b.Logger(),
	})
	b.deletion = deletion.NewEngine(deletion.Config{
		Settings: b.settings, Keys: b.keys, Tenants: b.tenants, Items: b.items,
		Ledger: b.ledger, Now: b.now, Jobs: b.jobs, Log: b.Logger(),
	})
	b.buildHolders()
	b.kek = kekrotation.NewEngine(kekrotation.Config{
		Mount: b.mount, Settings: b.settings, Keys: b.keys, Tenants: b.tenants, Items: b.items, Ledger: b.ledger,
		Now: b.now, Jobs: b.jobs, Pages: b.pages, Log: b.Logger(),
	})
	b.wrapping = wrappingkey.NewEngine(wrappingkey.Config{
		Keys: importstore.NewStore(b.mount), Now: b.now, Jobs: b.jobs, Log: b.Logger(),
		Generate: func() ([]byte, error) { return b.newWrappingKey() },
	})
	b.schedule = schedule.NewEngine(schedule.Config{
		Mount: b.mount, Settings: b.settings, Keys: b.keys, Tenants: b.tenants,
		Rotations: b.rotations, Deletion: b.deletion, Destruction: b.destruction, Holders: b.holders, KEK: b.kek, Now: b.now, Jobs: b.jobs, Log: b.Logger(),
	})
}

// initialize resumes what was unfinished when the engine last stopped. Unsealing waits for
// it, so it only starts the work.
func (b *backend) initialize(context.Context, *logical.InitializationRequest) error {
	if b.resumeUnfinished() {
		b.schedule.Start()
	}
	return nil
}

// periodic is called every minute, holds Vault's state lock and has 90 seconds:
// it only makes sure that every unfinished rotation is being worked on, and lets
// the scheduler look. There is no WALRollback: the framework would read each entry of the
// log for it, one after the other.
func (b *backend) periodic(context.Context, *logical.Request) error {
	if b.resumeUnfinished() {
		b.jobs.RunFunc("storage/recheck", b.mount.Recheck, nil)
		b.schedule.Wake()
		b.encryption.WriteUses(b.jobs)
		b.wrapping.Drive()
	}
	b.tendProviders()
	return nil
}

// invalidate forgets what is cached of the storage entry key, which another node
// has changed.
func (b *backend) invalidate(_ context.Context, key string) {
	b.settings.Invalidate(key)
	b.keys.Invalidate(key)
	b.tenants.Invalidate(key)
	b.items.Invalidate(key)
	b.evidencePaths.People.Invalidate(key)
}

// leads reports whether this node may write, by what Vault says now.
func (b *backend) leads() bool {
	if steady, ok := b.System().(*steadySystem); ok {
		steady.forget()
	}
	return b.WriteSafeReplicationState()
}

// damaged notes that an entry of storage cannot be read, or a prefix not be listed.
func (b *backend) damaged(key string, err error) {
	b.Logger().Error("an entry of storage is damaged", "entry", key, "error", err)
	b.tenants.Damaged(key, err)
}

// logger is the framework's, which it gets with its setup.
func (b *backend) logger() hclog.Logger { return b.Logger() }

// shareMemory bounds what the caches may take.
func (b *backend) shareMemory(c settings.Config) {
	share := c.Caches()
	b.tenants.LimitMemory(share.Records)
	b.keys.LimitMemory(share.Keys)
	b.items.LimitMemory(share.Pages, share.Directories)
}

// parallelism returns the number of pages that may be in flight now.
func (b *backend) parallelism() int {
	c, err := b.settings.Config(context.Background())
	if err != nil {
		return 1 // the settings cannot be read: go gently until they can
	}
	return b.limiter.Limit(b.now(), c.RotationParallelism)
}
