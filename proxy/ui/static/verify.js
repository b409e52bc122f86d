// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Verifies the evidence log in the browser: entries, tree (RFC 6962), checkpoint
// (c2sp.org/tlog-checkpoint), signature (c2sp.org/signed-note, Ed25519). It trusts
// nothing but what the reader brings, and says which key it had to take from the log.

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });
const bundleSize = 256;

// Problem is a result, named by the text that says it.
class Problem extends Error {}

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const base64 = (raw) => btoa(String.fromCharCode(...raw));
const sha256 = async (raw) => new Uint8Array(await crypto.subtle.digest("SHA-256", raw));

function joined(...parts) {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

// parseKey reads name+hash+base64(1 || public key).
export function parseKey(text) {
  const match = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text.trim());
  const raw = match && bytes(match[3]);
  if (!raw || raw.length !== 33 || raw[0] !== 1) throw new Problem("bad-note");
  return { name: match[1], hash: match[2], raw: raw.slice(1) };
}

// parseNote reads a signed checkpoint.
export function parseNote(text) {
  const split = text.lastIndexOf("\n\n");
  const signed = text.slice(0, split + 1);
  const [origin, size, root] = signed.split("\n");
  if (split < 0 || !/^(0|[1-9][0-9]*)$/.test(size) || !root) throw new Problem("bad-note");
  const signatures = [];
  for (const line of text.slice(split + 2).split("\n")) {
    const match = /^\u2014 (\S+) ([A-Za-z0-9+/=]+)$/.exec(line);
    if (!match) continue;
    const raw = bytes(match[2]);
    const hash = [...raw.slice(0, 4)].map((b) => b.toString(16).padStart(2, "0")).join("");
    signatures.push({ name: match[1], hash, signature: raw.slice(4) });
  }
  return { origin, size: Number(size), root, signed, signatures };
}

// isSigned reports whether a key signed a note.
export async function isSigned(note, key) {
  let imported;
  try {
    imported = await crypto.subtle.importKey("raw", key.raw, { name: "Ed25519" }, false, ["verify"]);
  } catch {
    throw new Problem("no-alg");
  }
  for (const s of note.signatures) {
    if (s.name !== key.name || s.hash !== key.hash) continue;
    if (await crypto.subtle.verify({ name: "Ed25519" }, imported, s.signature, encoder.encode(note.signed))) return true;
  }
  return false;
}

// Tree computes root hashes while leaves are added.
export class Tree {
  size = 0;
  stack = []; // roots of complete subtrees, the greatest first
  async add(leaf) {
    let hash = await sha256(joined(Uint8Array.of(0), leaf));
    for (let n = this.size; n % 2 === 1; n = (n - 1) / 2) hash = await this.node(this.stack.pop(), hash);
    this.stack.push(hash);
    this.size++;
  }
  node(left, right) {
    return sha256(joined(Uint8Array.of(1), left, right));
  }
  async root() {
    if (this.size === 0) return base64(await sha256(new Uint8Array(0)));
    let hash = this.stack[this.stack.length - 1];
    for (let i = this.stack.length - 2; i >= 0; i--) hash = await this.node(this.stack[i], hash);
    return base64(hash);
  }
}

// tilePath is a number as tlog-tiles spells it: x001/x234/067.
export function tilePath(n) {
  let path = String(n % 1000).padStart(3, "0");
  for (n = Math.floor(n / 1000); n > 0; n = Math.floor(n / 1000)) path = `x${String(n % 1000).padStart(3, "0")}/${path}`;
  return path;
}

async function file(url) {
  const response = await fetch(url);
  if (response.status === 401) location.reload();
  if (!response.ok) throw new Problem("failed");
  return response;
}

// leaves yields the entries of a bundle.
function* leaves(raw) {
  const view = new DataView(raw);
  for (let at = 0; at < raw.byteLength; ) {
    const length = view.getUint16(at);
    if (at + 2 + length > raw.byteLength) throw new Problem("bad-root");
    yield new Uint8Array(raw, at + 2, length);
    at += 2 + length;
  }
}

// verifyLog returns the texts that say what holds. It throws a Problem.
export async function verifyLog({ log, keyURL, vkey, kept, progress }) {
  const note = parseNote(decoder.decode(await (await file(log + "checkpoint")).arrayBuffer()));
  const earlier = kept ? parseNote(kept) : null;
  const keys = vkey ? [parseKey(vkey)] : ((k) => [k.vkey, ...(k.previous ?? [])])(await (await file(keyURL)).json()).map(parseKey);
  if (earlier && (earlier.origin !== note.origin || earlier.size > note.size)) throw new Problem("bad-kept");
  let signed = false;
  for (const key of keys) signed ||= key.name === note.origin && (await isSigned(note, key));
  if (!signed) throw new Problem("bad-sig");
  const tree = new Tree();
  const keptMatches = async () => earlier && earlier.size === tree.size && (await tree.root()) !== earlier.root;
  if (await keptMatches()) throw new Problem("bad-kept");
  for (let n = 0; n * bundleSize < note.size; n++) {
    const width = Math.min(bundleSize, note.size - n * bundleSize);
    const name = `tile/entries/${tilePath(n)}${width < bundleSize ? `.p/${width}` : ""}`;
    for (const leaf of leaves(await (await file(log + name)).arrayBuffer())) {
      await tree.add(leaf);
      if (await keptMatches()) throw new Problem("bad-kept");
    }
    progress(tree.size, note.size);
  }
  if (tree.size !== note.size || (await tree.root()) !== note.root) throw new Problem("bad-root");
  return { size: note.size, texts: ["ok", vkey ? "outside" : "own", ...(earlier ? ["goes-on"] : [])] };
}

function say(target, kind, sentences) {
  target.className = kind;
  target.replaceChildren(...sentences.map((s) => {
    const p = document.createElement("p");
    p.textContent = s;
    return p;
  }));
}

const form = document.getElementById("verify");
form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const result = document.getElementById("verify-result");
  const bar = document.getElementById("verify-progress");
  const button = form.querySelector("button");
  const texts = form.dataset;
  const named = (name) => texts[name.replace(/-(.)/g, (_, c) => c.toUpperCase())];
  button.disabled = true;
  bar.hidden = false;
  say(result, "", []);
  try {
    const done = await verifyLog({
      log: texts.log, keyURL: texts.key, vkey: form.vkey.value.trim(), kept: form.kept.value.trim() && form.kept.value.trimStart().trimEnd() + "\n",
      progress(now, all) { bar.max = all; bar.value = now; },
    });
    say(result, "said", done.texts.map((name) => named(name) + (name === "ok" ? ` ${done.size}` : "")));
  } catch (error) {
    say(result, "problem", [named(error instanceof Problem ? error.message : "failed")]);
  } finally {
    button.disabled = false;
    bar.hidden = true;
  }
});
// Before this script runs, the button would send the form.
if (form) form.querySelector("button").disabled = false;
