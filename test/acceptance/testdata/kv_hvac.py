# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
#
# Does with a mount of KV version 2 what hvac can do, and prints what comes of it: one
# line of JSON for each call, without times.
import json
import os

import hvac

mount, name, folder = os.environ["KV_MOUNT"], os.environ["KV_NAME"], os.environ["KV_FOLDER"]
client = hvac.Client(url=os.environ["VAULT_ADDR"], token=os.environ["VAULT_TOKEN"])
kv = client.secrets.kv.v2


def show(value):
    if isinstance(value, dict):
        return {k: show(v) for k, v in value.items() if k in ("data", "metadata", "versions", "keys", "errors", "warnings")
                or k in ("version", "destroyed", "deletion_time", "custom_metadata", "current_version", "oldest_version",
                         "max_versions", "cas_required", "delete_version_after") or k in ("user", "password", "port", "nested")
                or k.isdigit()}
    return value


def call(what, f, **arguments):
    try:
        answer = f(mount_point=mount, **arguments)
        if hasattr(answer, "status_code"):
            answer = answer.status_code
        print(json.dumps([what, show(answer)], sort_keys=True))
    except Exception as error:  # what a client sees of a refusal
        print(json.dumps([what, type(error).__name__, getattr(error, "errors", None) or []], sort_keys=True))


call("read what is not there", kv.read_secret_version, path=name, raise_on_deleted_version=True)
call("create", kv.create_or_update_secret, path=name, secret={"user": "u", "nested": {"port": 1}}, cas=0)
call("create again", kv.create_or_update_secret, path=name, secret={"user": "v"}, cas=0)
call("update", kv.create_or_update_secret, path=name, secret={"user": "v"}, cas=1)
call("read", kv.read_secret_version, path=name, raise_on_deleted_version=True)
call("read an older one", kv.read_secret_version, path=name, version=1, raise_on_deleted_version=True)
call("patch", kv.patch, path=name, secret={"password": "p"})
call("patch what is not there", kv.patch, path=name + "-none", secret={"password": "p"})
call("write metadata", kv.update_metadata, path=name, custom_metadata={"owner": "billing"})
call("read metadata", kv.read_secret_metadata, path=name)
call("read, deleted or not", kv.read_secret_version, path=name, raise_on_deleted_version=False)
call("list", kv.list_secrets, path=folder)
call("list nothing", kv.list_secrets, path=folder + "/none")
call("undelete an older one", kv.undelete_secret_versions, path=name, versions=[1])
call("delete an older one", kv.delete_secret_versions, path=name, versions=[1])
call("destroy an older one", kv.destroy_secret_versions, path=name, versions=[1])
call("delete", kv.delete_latest_version_of_secret, path=name)
call("delete all", kv.delete_metadata_and_all_versions, path=name)
call("read metadata of nothing", kv.read_secret_metadata, path=name)
