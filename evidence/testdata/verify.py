#!/usr/bin/env python3
# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
"""A second verifier of evidence logs, from the specifications alone.

It shares no code with the Go verifier and needs Python's standard library only. It
reads the files of tlog-tiles (c2sp.org) that an export wrote, and prints a line of
JSON: whether all holds, the size and root, and what does not hold.

    verify.py DIR --vkey KEY [--kept FILE] [--now TIME]
"""

import argparse
import base64
import datetime
import hashlib
import json
import os
import struct

# Ed25519, RFC 8032 section 5.1 and 6.
P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def point_add(a, b):
    x = (a[1] - a[0]) * (b[1] - b[0]) % P
    y = (a[1] + a[0]) * (b[1] + b[0]) % P
    z = 2 * a[3] * b[3] * D % P
    w = 2 * a[2] * b[2] % P
    e, f, g, h = y - x, w - z, w + z, y + x
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def point_mul(n, a):
    total = (0, 1, 1, 0)
    while n > 0:
        if n & 1:
            total = point_add(total, a)
        a = point_add(a, a)
        n >>= 1
    return total


def recover_x(y, sign):
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P != 0:
        x = x * SQRT_M1 % P
    if (x * x - x2) % P != 0:
        return None
    return P - x if (x & 1) != sign else x


def decompress(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


G_Y = 4 * pow(5, P - 2, P) % P
G_X = recover_x(G_Y, 0)
G = (G_X, G_Y, 1, G_X * G_Y % P)


def ed25519_verify(public, message, signature):
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r = decompress(public), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= Q:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    h = int.from_bytes(digest, "little") % Q
    left, right = point_mul(s, G), point_add(r, point_mul(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (
        left[1] * right[2] - right[1] * left[2]
    ) % P == 0


# c2sp.org/signed-note and tlog-checkpoint.
def open_note(data, vkeys):
    """Returns origin, size, root and the keys among vkeys that signed."""
    text, found, signatures = data.decode("utf-8").partition("\n\n")
    if not found:
        raise ValueError("no signed note")
    text += "\n"
    lines = text.split("\n")
    origin, size, root = lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True)
    if str(size) != lines[1] or size < 0 or len(root) != 32 or not origin.startswith("vault-plugin-dek/"):
        raise ValueError("no checkpoint of this engine")
    signed = []
    for line in signatures.rstrip("\n").split("\n"):
        dash, name, value = line.split(" ")
        if dash != "\u2014":
            raise ValueError("no signature line")
        raw = base64.b64decode(value, validate=True)
        for vkey in vkeys:
            key_name, key_hash, key = vkey.split("+", 2)
            key = base64.b64decode(key, validate=True)
            want = hashlib.sha256(key_name.encode() + b"\n" + key).digest()[:4]
            if key[0] != 1 or want.hex() != key_hash:
                raise ValueError("no verifier key")
            if key_name == name == origin and raw[:4] == want:
                if not ed25519_verify(key[1:], text.encode(), raw[4:]):
                    raise ValueError("a signature is wrong")
                signed.append(vkey)
    return origin, size, root, signed


# The Merkle tree of RFC 6962.
def leaf_hash(leaf):
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_hash(hashes):
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return node_hash(tree_hash(hashes[:split]), tree_hash(hashes[split:]))


# c2sp.org/tlog-tiles.
def tile_path(level, number, width):
    parts = ["%03d" % (number % 1000)]
    while number >= 1000:
        number //= 1000
        parts.insert(0, "x%03d" % (number % 1000))
    path = "tile/%s/%s" % (level, "/".join(parts))
    return path if width == 256 else path + ".p/%d" % width


def widths(count):
    return [(n, min(256, count - 256 * n)) for n in range((count + 255) // 256)]


# RFC 8785, for strings, whole numbers, booleans, null, arrays and objects.
def canonical(value):
    if isinstance(value, dict):
        keys = sorted(value, key=lambda k: k.encode("utf-16-be"))
        return "{" + ",".join(json.dumps(k, ensure_ascii=False) + ":" + canonical(value[k]) for k in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(v) for v in value) + "]"
    if isinstance(value, float) or isinstance(value, int) and not 0 <= value < 2**53:
        raise ValueError("a number that an entry cannot have")
    return json.dumps(value, ensure_ascii=False)


def parse_time(text):
    whole, _, fraction = text.rstrip("Z").partition(".")
    at = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc)
    return at.timestamp() + float("0." + (fraction or "0"))


class Verifier:
    def __init__(self, directory, vkeys, kept, now):
        self.directory, self.trusted, self.kept, self.now = directory, list(vkeys), kept, now
        self.codes, self.leaves, self.hashes, self.events = set(), [], [], []

    def read(self, name):
        with open(os.path.join(self.directory, name), "rb") as file:
            return file.read()

    def verify(self):
        try:
            note = self.read("checkpoint")
        except FileNotFoundError:
            self.codes.add("missing")
            return
        try:
            self.origin, self.size, self.root, _ = open_note(note, [])
        except (ValueError, IndexError, UnicodeDecodeError):
            self.codes.add("checkpoint")
            return
        self.entries()
        if tree_hash(self.hashes) != self.root or len(self.hashes) != self.size:
            self.codes.add("root")
        self.tiles()
        self.content()
        self.signature(note)
        if self.kept:
            self.compare()

    def entries(self):
        for number, width in widths(self.size):
            try:
                data = self.read(tile_path("entries", number, width))
            except FileNotFoundError:
                self.codes.add("missing")
                return
            count = 0
            while data and count < width:
                (length,) = struct.unpack(">H", data[:2])
                leaf, data = data[2 : 2 + length], data[2 + length :]
                self.leaves.append(leaf)
                self.hashes.append(leaf_hash(leaf))
                count += 1
            if data:
                self.codes.add("entry")
            if count < width:
                self.codes.add("missing")
                return

    def tiles(self):
        level, row = 0, self.hashes
        while row:
            for number, width in widths(len(row)):
                want = b"".join(row[256 * number : 256 * number + width])
                try:
                    if self.read(tile_path(level, number, width)) != want:
                        self.codes.add("tile")
                except FileNotFoundError:
                    self.codes.add("missing")
            row = [tree_hash(row[256 * n : 256 * n + 256]) for n in range(len(row) // 256)]
            level += 1

    def signature(self, note):
        for index, event in self.events:
            if event["_kind"] != "evidence-key-rotated" or event["old"] not in self.trusted:
                continue
            size = index + 1
            try:
                data = note if size == self.size else self.read("checkpoints/%d" % size)
                _, n, root, signed = open_note(data, [event["old"], event["new"]])
                if n != size or len(signed) != 2 or root != tree_hash(self.hashes[:size]):
                    raise ValueError("not introduced by the old key")
                self.trusted.append(event["new"])
            except (ValueError, FileNotFoundError):
                self.codes.add("key-rotation")
        try:
            if not open_note(note, self.trusted)[3]:
                self.codes.add("signature")
        except ValueError:
            self.codes.add("signature")

    def compare(self):
        try:
            origin, size, root, signed = open_note(self.kept, self.trusted)
        except (ValueError, IndexError):
            self.codes.add("kept")
            return
        if origin != self.origin or not signed:
            self.codes.add("kept")
        if origin != self.origin:
            return
        if size > self.size:
            self.codes.add("went-back")
        elif tree_hash(self.hashes[:size]) != root:
            self.codes.add("fork")

    def content(self):
        chains, seen, self.tenants = {}, set(), {}
        for index, leaf in enumerate(self.leaves):
            try:
                statement = json.loads(leaf)
                if canonical(statement).encode() != leaf or len(leaf) > 16384:
                    raise ValueError("not canonical")
                for subject in statement["subject"]:
                    if hashlib.sha256(subject["name"].encode()).hexdigest() != subject["digest"]["sha256"]:
                        raise ValueError("another digest")
                event = statement["predicate"]
                event["_kind"] = statement["predicateType"].split("/")[-2]
                scope = event.get("incarnation", "")
            except (ValueError, KeyError, TypeError, IndexError):
                self.codes.add("malformed")
                continue
            if event["event_id"] in seen:
                self.codes.add("repeated")
                continue
            seen.add(event["event_id"])
            self.events.append((index, event))
            seq, last = chains.get(scope, (0, None))
            if event["seq"] > seq + 1:
                self.codes.add("gap")
            if event["seq"] <= seq or event["previous"] != last:
                self.codes.add("order")
            chains[scope] = (max(seq, event["seq"]), index)
            if scope:
                self.tenant(scope, event)
        for tenant in self.tenants.values():
            self.overdue(tenant)

    def tenant(self, scope, event):
        new = {"active": None, "since": 0.0, "interval": 0, "due": {}, "destroyed": set(), "state": "active"}
        t = self.tenants.setdefault(scope, new)
        kind, at = event["_kind"], parse_time(event["time"])
        if kind == "tenant-created":
            t["active"], t["since"], t["interval"] = event["version"], at, event["rotation_interval"]
        elif kind == "tenant-deletion-scheduled":
            t["state"] = "deleting"
        elif kind == "tenant-restored":
            t["state"] = "active"
        elif kind == "tenant-shredded":
            t["state"] = "shredded"
        elif kind == "rotation-started":
            if t["active"] is not None and t["active"] != event["previous_version"]:
                self.codes.add("missing-event")
            self.late(t, at)
            t["before"] = t["since"]
            t["active"], t["since"], t["interval"] = event["new_version"], at, event["rotation_interval"]
        elif kind == "rotation-completed":
            if event["pages_on_previous_version"] or event["failures"]:
                self.codes.add("pages-left")
            t["due"][event["previous_version"]] = at + event["retired_key_retention"]
        elif kind == "rotation-rolled-back":
            t["active"], t["since"] = event["previous_version"], t["before"]
        elif kind == "key-destroyed":
            if event["pages_left"] and event["why"] != "forced":
                self.codes.add("pages-left")
            if event["which"] == "page":
                t["destroyed"].add(event["version"])

    def late(self, t, at):
        allowed = t["interval"] + min(86400, t["interval"] / 10) + 3600
        if t["active"] is not None and t["interval"] and at - t["since"] > allowed:
            self.codes.add("late")

    def overdue(self, t):
        if t["state"] != "active":
            return
        self.late(t, self.now)
        for version, due in t["due"].items():
            if version not in t["destroyed"] and self.now - due > 86400:
                self.codes.add("not-destroyed")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--vkey", action="append", required=True)
    parser.add_argument("--kept")
    parser.add_argument("--now")
    arguments = parser.parse_args()
    kept = open(arguments.kept, "rb").read() if arguments.kept else None
    now = arguments.now or datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    v = Verifier(arguments.directory, arguments.vkey, kept, parse_time(now))
    v.size, v.root = 0, b""
    v.verify()
    root = base64.b64encode(v.root).decode()
    print(json.dumps({"ok": not v.codes, "size": v.size, "root_hash": root, "codes": sorted(v.codes)}))


if __name__ == "__main__":
    main()
