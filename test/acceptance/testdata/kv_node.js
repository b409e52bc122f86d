// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0
//
// Does with a mount of KV version 2 what programs do with node-vault, and prints what
// comes of it: one line of JSON for each call, without times and what KV alone has.
'use strict';

const { VAULT_ADDR, VAULT_TOKEN, KV_MOUNT, KV_NAME, KV_FOLDER } = process.env;
const vault = require('node-vault')({ endpoint: VAULT_ADDR, token: VAULT_TOKEN });
const fleeting = /^(request_id|mount_type|created_time|updated_time|created_by|deleted_by|last_updated_by|current_metadata_version|metadata_cas_required)$/;

async function call(what, promise) {
  let answer;
  try {
    answer = await promise;
  } catch (error) {
    answer = { status: error.response && error.response.statusCode, message: error.message };
  }
  console.log(JSON.stringify([what, answer], (name, value) => (fleeting.test(name) ? undefined : value)));
}

(async () => {
  const at = (part, name) => `${KV_MOUNT}/${part}/${name || KV_NAME}`;
  await call('read what is not there', vault.read(at('data')));
  await call('write', vault.write(at('data'), { data: { user: 'u', nested: { port: 1 } }, options: { cas: 0 } }));
  await call('write again', vault.write(at('data'), { data: { user: 'v' }, options: { cas: 0 } }));
  await call('read', vault.read(at('data')));
  await call('update', vault.update(at('data'), { data: { password: 'p' } }));
  await call('write metadata', vault.write(at('metadata'), { custom_metadata: { owner: 'billing' } }));
  await call('read metadata', vault.read(at('metadata')));
  await call('read subkeys', vault.read(at('subkeys')));
  await call('list', vault.list(at('metadata', KV_FOLDER)));
  await call('delete an older one', vault.write(at('delete'), { versions: [1] }));
  await call('undelete an older one', vault.write(at('undelete'), { versions: [1] }));
  await call('destroy an older one', vault.write(at('destroy'), { versions: [1] }));
  await call('delete', vault.delete(at('data')));
  await call('delete all', vault.delete(at('metadata')));
  await call('list nothing', vault.list(at('metadata', KV_FOLDER)));
})();
