// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Envelopes and files of the Go client, once more in Node's standard library: for
// those who write a client in another language, and to check the Go client by
// something that shares no code with it.
//
//   node vectors.mjs make > vectors.json   makes the vectors
//   node vectors.mjs check < vectors.json  opens every vector; exits 1 if one does not open
//   node vectors.mjs seal < cases.json     seals each of a list, with fresh nonces; writes a
//                                          list of base64
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, createHash } from "node:crypto";
import { readFileSync } from "node:fs";

// list encodes parts, each preceded by its length in four bytes.
const list = (...parts) =>
  Buffer.concat(parts.flatMap((part) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(Buffer.from(part).length);
    return [length, Buffer.from(part)];
  }));

const aesBlock = (key, block) => {
  const c = createCipheriv("aes-256-ecb", key, null).setAutoPadding(false);
  return Buffer.concat([c.update(block), c.final()]);
};

// xaesKey derives the key of one message: https://c2sp.org/XAES-256-GCM
const xaesKey = (key, nonce) => {
  const l = aesBlock(key, Buffer.alloc(16));
  const k1 = Buffer.alloc(16);
  for (let i = 0; i < 16; i++) k1[i] = ((l[i] << 1) | ((l[i + 1] ?? 0) >> 7)) & 0xff;
  if (l[0] & 0x80) k1[15] ^= 0x87;
  const half = (n) => {
    const m = Buffer.concat([Buffer.from([0, n, 0x58, 0]), nonce.subarray(0, 12)]);
    for (let i = 0; i < 16; i++) m[i] ^= k1[i];
    return aesBlock(key, m);
  };
  return Buffer.concat([half(1), half(2)]);
};

const gcmSeal = (key, nonce, plaintext, ad) => {
  const c = createCipheriv("aes-256-gcm", key, nonce);
  if (ad) c.setAAD(ad);
  return Buffer.concat([c.update(plaintext), c.final(), c.getAuthTag()]);
};

const gcmOpen = (key, nonce, sealed, ad) => {
  const d = createDecipheriv("aes-256-gcm", key, nonce);
  if (ad) d.setAAD(ad);
  d.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([d.update(sealed.subarray(0, -16)), d.final()]);
};

// parts takes a text apart behind its dek:v<version>:
const parts = (text) => {
  const match = /^(dek:v[1-9][0-9]{0,9}:)(.*)$/s.exec(text);
  if (!match) throw new Error("malformed");
  return [match[1], match[2]];
};

const sealEnvelope = (dataKey, keyText, nonce, plaintext, ad) => {
  const [head, key] = parts(keyText);
  const sealed = gcmSeal(xaesKey(dataKey, nonce), nonce.subarray(12), plaintext,
    list("vault-plugin-dek/envelope/v1", keyText, ad));
  return `${head}e1.${key}.${Buffer.concat([nonce, sealed]).toString("base64")}`;
};

const openEnvelope = (dataKey, text, ad) => {
  const [head, rest] = parts(text);
  const [mark, key, encoded] = rest.split(".");
  if (mark !== "e1") throw new Error("malformed");
  const sealed = Buffer.from(encoded, "base64");
  const nonce = sealed.subarray(0, 24);
  return gcmOpen(xaesKey(dataKey, nonce), nonce.subarray(12), sealed.subarray(24),
    list("vault-plugin-dek/envelope/v1", head + key, ad));
};

// A file: the first line; then a header of 1 byte (its length, 40), 32 of salt, 7
// of nonce prefix; then segments of 1 MiB with their tags, of which the first is
// shorter by the header. The nonce is prefix, number, 1 in the last segment.
const segment = 1 << 20;

const segments = (length, overhead) => {
  const out = [];
  for (let at = 0, room = segment - 40 - overhead; ; at += room, room = segment - overhead) {
    out.push([at, Math.min(length, at + room)]);
    if (at + room >= length) return out;
  }
};

const segmentNonce = (prefix, n, last) => {
  const nonce = Buffer.alloc(12);
  prefix.copy(nonce);
  nonce.writeUInt32BE(n, 7);
  nonce[11] = last ? 1 : 0;
  return nonce;
};

const fileSubkey = (dataKey, salt, ad) =>
  Buffer.from(hkdfSync("sha256", dataKey, salt, list("vault-plugin-dek/stream/v1", ad), 32));

const sealFile = (dataKey, keyText, salt, prefix, plaintext, ad) => {
  const [head, key] = parts(keyText);
  const subkey = fileSubkey(dataKey, salt, ad);
  const all = segments(plaintext.length, 16);
  return Buffer.concat([
    Buffer.from(`${head}s1.${key}\n`), Buffer.from([40]), salt, prefix,
    ...all.map(([from, to], n) =>
      gcmSeal(subkey, segmentNonce(prefix, n, n === all.length - 1), plaintext.subarray(from, to))),
  ]);
};

const openFile = (dataKey, file, ad) => {
  const line = file.indexOf("\n");
  const [, rest] = parts(file.subarray(0, line).toString());
  const body = file.subarray(line + 1);
  if (!rest.startsWith("s1.") || body[0] !== 40) throw new Error("malformed");
  const subkey = fileSubkey(dataKey, body.subarray(1, 33), ad);
  const prefix = body.subarray(33, 40);
  const sealed = body.subarray(40);
  const all = segments(sealed.length, 0);
  return Buffer.concat(all.map(([from, to], n) =>
    gcmOpen(subkey, segmentNonce(prefix, n, n === all.length - 1), sealed.subarray(from, to))));
};

const hex = (text) => Buffer.from(text, "hex");
const bytes = (label, n) => Buffer.from(hkdfSync("sha256", "vault-plugin-dek vectors", "", label, n));

const keyTextOf = (name, version) => `dek:v${version}:${bytes(`sealed key of ${name}`, 72).toString("base64")}`;

const make = () => {
  const cases = [
    ["empty", 1, 0, 0], ["one byte", 1, 1, 0], ["a block", 2, 16, 3],
    ["200 bytes", 17, 200, 16], ["greatest version", 2147483647, 33, 300],
  ];
  const vector = ([name, version, length, adLength], kind) => ({
    name, data_key: bytes(`key of ${kind} ${name}`, 32).toString("hex"),
    key_text: keyTextOf(`${kind} ${name}`, version),
    associated_data: bytes("ad", Math.max(adLength, 1)).subarray(0, adLength).toString("hex"),
    plaintext: bytes("text", Math.max(length, 1)).subarray(0, length).toString("hex"),
  });
  const envelopes = cases.map((c) => {
    const v = vector(c, "envelope");
    v.envelope = sealEnvelope(hex(v.data_key), v.key_text, bytes(`nonce ${v.name}`, 24), hex(v.plaintext), hex(v.associated_data));
    return v;
  });
  const files = cases.map((c) => {
    const v = vector(c, "file");
    v.file = sealFile(hex(v.data_key), v.key_text, bytes(`salt ${v.name}`, 32), bytes(`prefix ${v.name}`, 7),
      hex(v.plaintext), hex(v.associated_data)).toString("base64");
    return v;
  });
  return { envelopes, files };
};

const same = (v, got) => {
  const digest = (b) => createHash("sha256").update(b).digest("hex");
  const want = v.plaintext_sha256 ?? digest(hex(v.plaintext));
  if (digest(got) !== want) throw new Error(`${v.name}: opens to something else`);
};

// xaesVectors are those of the specification.
const checkXAES = () => {
  const nonce = Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWX");
  const plaintext = Buffer.from("XAES-256-GCM");
  for (const [byte, ad, want] of [
    [1, undefined, "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"],
    [3, Buffer.from("c2sp.org/XAES-256-GCM"), "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"],
  ]) {
    const key = Buffer.alloc(32, byte);
    const got = gcmSeal(xaesKey(key, nonce), nonce.subarray(12), plaintext, ad).toString("hex");
    if (got !== want) throw new Error("XAES-256-GCM: not as the specification has it");
  }
};

const check = ({ envelopes = [], files = [] }) => {
  checkXAES();
  for (const v of envelopes) same(v, openEnvelope(hex(v.data_key), v.envelope, hex(v.associated_data)));
  for (const v of files) same(v, openFile(hex(v.data_key), Buffer.from(v.file, "base64"), hex(v.associated_data)));
};

const seal = (v) => {
  const plaintext = Buffer.from(v.plaintext, "base64");
  if (v.kind === "file") {
    return sealFile(hex(v.data_key), v.key_text, randomBytes(32), randomBytes(7), plaintext, hex(v.associated_data));
  }
  return sealEnvelope(hex(v.data_key), v.key_text, randomBytes(24), plaintext, hex(v.associated_data));
};

const input = () => JSON.parse(readFileSync(0));
switch (process.argv[2]) {
  case "make":
    process.stdout.write(JSON.stringify(make(), null, 1) + "\n");
    break;
  case "check":
    check(input());
    break;
  case "seal":
    process.stdout.write(JSON.stringify(input().map((v) => Buffer.from(seal(v)).toString("base64"))));
    break;
  default:
    console.error("usage: node vectors.mjs make|check|seal");
    process.exit(2);
}
