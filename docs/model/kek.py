# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
"""A model of the mount's KEK: making the first, switching it, moving every key to it, destroying the old one.

Entries: PTR, the record of the KEK, is (current KEK, state of its rotation, idempotency key); ('kek', n); for a
tenant t its record ('rec', t) is (incarnation, state); a key ('key', 'incarnation.name') is (KEK, material), 'plc'
standing for those that a record names and 'ext' for one that exists without being named.

RULES are those of backend/internal/kekrotation and backend/internal/keystore. `python3 kek.py` searches the protocol, and
then once without each of them; with words it runs what has them in its name, and prints how a violation comes about.
"""
import sys
from mc import *
import mc
PTR = ('ptr', 0)
RULES = dict(
    keyfirst=1,   # the KEK's entry is written before the record
    held=1,       # wrapping holds the KEK's lock from reading the record until the key is stored
    lookagain=1,  # who makes the first KEK looks again under that lock, held exclusively
    drain=1,      # a run begins by holding every tenant's lock once, so that what wrapped before has put its record
    tlock=1,      # a key is moved under its tenant's exclusive lock
    listed=1,     # and only if a List under that lock shows it
    hidden=1,     # a key that is listed, does not show, and is in no record, is deleted
    hiddenrec=1,  # a tenant that is listed and whose record does not show keeps the old KEK
    shredding=1,  # a tenant that is being shredded is passed over
    again=1,      # a move that failed is repeated until it succeeds
    destroylast=1,  # old KEKs go only after a pass that found nothing to move
    beforeend=1,  # and before the record says that it is over
    idem=1,       # a repeated request is told by its key, also once the rotation is over
    drop=1,       # a reading that decides, and each Put, drops what wrapping has kept of the record in memory
    lease=1,      # and voids what is being read to be kept
    settle=1,     # a run begins by putting the record again as it was read, under the KEK's lock
)
C = dict(RULES)

def until(op, *a):
    r = yield (op,) + a
    while r == 'err': r = yield (op,) + a

def decide():
    """reads the record, from storage and not from memory"""
    p = yield ('get', PTR)
    if C['drop']: yield ('mfun', 'drop')
    return p

def put_ptr(v):
    yield ('mfun', 'drop')
    r = yield ('put', PTR, v)
    yield ('mfun', 'drop')
    return r

@prog
def rotate(idem):
    yield ('lock', 'K', 'X')
    p = yield from decide()
    if p is None: return '404'
    if p[1] == 'unfinished' or C['idem'] and p[2] == idem: return 'same or 409'
    n = yield ('fresh',)
    if C['keyfirst']:
        r = yield ('put', ('kek', n), 1)
        if r == 'err': return '500'
    r = yield from put_ptr((n, 'unfinished', idem))
    if r == 'err': r = yield from put_ptr((n, 'unfinished', idem))
    if r == 'err': return '500'
    if not C['keyfirst']: yield from until('put', ('kek', n), 1)
    yield ('ghost', 'started', idem)
    yield ('spawn', 'worker', 'worker', ())
    yield ('nop',)   # the answer, which a crash may swallow

@prog
def recover():
    p = yield from decide()
    if p is not None and p[1] == 'unfinished': yield ('spawn', 'worker', 'worker', ())

@prog
def worker():
    yield ('lock', 'K', 'X')
    p = yield from decide()
    if p is None or p[1] != 'unfinished': return
    if C['settle']:
        r = yield from put_ptr(p)
        while r == 'err': r = yield from put_ptr(p)
        r = None
    yield ('unlock', 'K')
    if C['drain']:
        for t in ('a', 'b'):
            yield ('lock', t, 'X'); yield ('unlock', t)
        t = None
    if not C['destroylast']: yield from destroy_old(p)
    clean = False
    while not clean:
        clean, failed = True, False
        recs = yield ('list', 'rec')
        for t in recs:
            r = yield from move_tenant(t, p)
            failed = failed or r == 'failed'
            clean = clean and r != 'moved'
        r = recs = t = None
    yield ('lock', 'K', 'X')
    now = yield from decide()
    if now != p: return
    if failed:
        yield from until('put', PTR, (p[0], 'failed', p[2])); return
    if C['beforeend'] and C['destroylast']: yield from destroy_old(p)
    yield from until('put', PTR, (p[0], 'completed', p[2]))
    if not C['beforeend']: yield from destroy_old(p)

@prog
def tell():
    """puts the record again as it was read, since the log lacks an event that it carries"""
    yield ('lock', 'K', 'X')
    p = yield from decide()
    if p is not None: yield from put_ptr(p)

def destroy_old(p):
    keks = yield ('list', 'kek')
    for k in keks:
        if k != p[0]: yield from until('del', ('kek', k))

def move_tenant(t, p):
    if not C['tlock'] or not C['listed']:   # then what there is to move is known from before
        rec = yield ('get', ('rec', t))
        if rec is None: return 'failed' if C['hiddenrec'] else None
        keys = yield ('list', 'key')
    if C['tlock']: yield ('lock', t, 'X')
    rec = yield ('get', ('rec', t))
    if rec is None:
        yield ('unlock', t); return 'failed' if C['hiddenrec'] else None
    if rec[1] == 'shredding' and C['shredding']:
        yield ('unlock', t); return
    if C['tlock'] and C['listed']: keys = yield ('list', 'key')
    res = None
    for k in keys:
        if not k.startswith(rec[0] + '.'): continue
        w = yield ('get', ('key', k))
        if w is None:
            if C['hidden'] and k.endswith('.ext'):
                yield from until('del', ('key', k)); res = res or 'moved'
            elif C['hidden']: res = 'failed'
        elif w[0] != p[0]:
            old = yield ('get', ('kek', w[0]))
            if old is None: raise Violation('worker: %s needs destroyed KEK %s' % (k, w[0]))
            old = None
            r = yield ('put', ('key', k), (p[0], w[1]))
            while r == 'err' and C['again']: r = yield ('put', ('key', k), (p[0], w[1]))
            r = None
            if C['again']: res = res or 'moved'
    yield ('unlock', t)
    return res

def current():
    """the KEK that wraps now, from memory if it was kept there"""
    k = yield ('mfun', 'look')
    if k[0] is not None: return k[0]
    p = yield ('get', PTR)
    if p is not None: yield ('mfun', 'keep', k[1], p)
    return p

def wrap(key):
    """CreateKey: new material under the current KEK, which is made if there is none"""
    p = None
    while p is None:
        yield ('lock', 'K', 'S')
        p = yield from current()
        if p is not None: break
        yield ('unlock', 'K')
        yield ('lock', 'K', 'X')
        if C['lookagain']: p = yield from current()
        if p is None:
            n = yield ('fresh',)
            r = yield ('put', ('kek', n), 1)
            if r != 'err': r = yield from put_ptr((n, '', 0))
            if r == 'err': yield ('unlock', 'K'); return None
            n = None
        p = None
        yield ('unlock', 'K')
    if not C['held']: yield ('unlock', 'K')
    kek = yield ('get', ('kek', p[0]))
    if kek is None: raise Violation('wrap: the current KEK %s is gone' % p[0])
    m = yield ('fresh',)
    r = yield ('put', ('key', key), (p[0], m))
    yield ('unlock', 'K')
    return None if r == 'err' else m

@prog
def create(t):
    yield ('lock', t, 'X')
    rec = yield ('get', ('rec', t))
    if rec is not None: return '409'
    n = yield ('fresh',)
    inc = '%s%d' % (t, n); n = None
    m = yield from wrap(inc + '.plc')
    if m is None: return '500'
    r = yield ('put', ('rec', t), (inc, 'active'))
    if r == 'ok': yield ('ghost', 'created', t)

@prog
def encrypt(t):
    yield ('lock', t, 'X')
    rec = yield ('get', ('rec', t))
    if rec is None or rec[1] != 'active': return '404'
    w = yield ('get', ('key', rec[0] + '.ext'))
    if w is None:
        m = yield from wrap(rec[0] + '.ext')
        if m is None: return '500'
    else:
        kek = yield ('get', ('kek', w[0]))
        if kek is None: raise Violation('encrypt: %s needs destroyed KEK %s' % (rec[0], w[0]))
        m = w[1]
    yield ('ghost', 'sealed', rec[0], m)

@prog
def destroy(t):
    """destroys the external key; the record knows nothing of it"""
    yield ('lock', t, 'X')
    rec = yield ('get', ('rec', t))
    if rec is None or rec[1] != 'active': return '404'
    yield ('ghost', 'ending', rec[0])
    yield ('del', ('key', rec[0] + '.ext'))

@prog
def shred(t):
    yield ('lock', t, 'X')
    rec = yield ('get', ('rec', t))
    if rec is None: return '404'
    yield ('ghost', 'ending', rec[0])
    r = yield ('put', ('rec', t), (rec[0], 'shredding'))
    if r == 'err': return '500'
    yield ('unlock', t)
    keys = yield ('list', 'key')
    for k in keys:
        if k.startswith(rec[0] + '.'): yield from until('del', ('key', k))
    keys = k = None
    yield ('lock', t, 'X')
    yield from until('del', ('rec', t))

class Kek(Model):
    recover = ('recover', ()); neverread = (); evict = busytick = True; tenants = ('a',); ext = True; kek = True
    def init(self, s):
        if self.kek: s.store = {PTR: (1, '', 0), ('kek', 1): 1}; s.ghost['was current', 1] = 1
        for t in self.tenants:
            s.store[('rec', t)] = (t + '0', 'active'); s.store[('key', t + '0.plc')] = (1, 't' + t)
            s.ghost['material', t + '0.plc'], s.ghost['material', t + '0.ext'] = 't' + t, 'e' + t
            if self.ext: s.store[('key', t + '0.ext')] = (1, 'e' + t); s.ghost['sealed', t + '0'] = ('e' + t,)
    def look(self, n): return (n.mem.get('kept'), n.mem.get('lease', 0))
    def keep(self, n, lease, p):
        if not C['lease'] or n.mem.get('lease', 0) == lease: n.mem['kept'] = p
    def drop(self, n):
        n.mem.pop('kept', None); n.mem['lease'] = (n.mem.get('lease', 0) + 1) % 6
    def needtick(self, s):
        p = view(s, PTR); return p is not None and p[1] == 'unfinished'
    def ghost(self, s, slot, op):
        what, args = op[1], op[2:]
        if what == 'sealed': s.ghost['sealed', args[0]] = tuple(sorted(set(s.ghost.get(('sealed', args[0]), ())) | {args[1]}, key=str))
        elif what == 'ending': s.ghost.pop(('sealed', args[0]), None)
        elif what == 'started':
            if ('started', args[0]) in s.ghost: raise Violation('one idempotency key started two rotations')
            s.ghost['started', args[0]] = 1
        elif what == 'created': s.ghost['created', args[0]] = 1
    def oneff(self, s, k, v):
        if k == PTR: s.ghost['was current', v[0]] = 1
        if k[0] != 'key': return
        if v is None: s.ghost['deleted', s.ghost.pop(('material', k[1]), None)] = 1
        else:
            if ('deleted', v[1]) in s.ghost: raise Violation('a deleted key is back: %s' % k[1])
            s.ghost['material', k[1]] = v[1]
    def check(self, s):
        for k in s.store:
            if k[0] != 'rec': continue
            inc, state = s.store[k]
            if state == 'shredding': continue
            for name in ('plc', 'ext'):
                key = ('key', '%s.%s' % (inc, name))
                if name == 'plc' and key not in s.store: raise Violation('%s lost' % (key,))
                for nm, w in (('disk', s.store.get(key)), ('cache', view(s, key))):
                    if w is None or key not in s.store: continue
                    if ('kek', w[0]) not in s.store: raise Violation('%s (%s) names KEK %s, which is destroyed' % (key, nm, w[0]))
        for g, val in s.ghost.items():
            if g[0] == 'sealed':
                for nm, w in (('disk', s.store.get(('key', g[1] + '.ext'))), ('cache', view(s, ('key', g[1] + '.ext')))):
                    if len(val) > 1 or w is None or w[1] != val[0]: raise Violation('sealed under %s, key (%s) is %s' % (val, nm, w))
            if g[0] == 'created' and view(s, ('rec', g[1])) is None: raise Violation('an acknowledged tenant is gone')
        p = view(s, PTR)
        if p is not None and ('kek', p[0]) not in s.store: raise Violation('the current KEK is gone')
    def inuse(self, s, key):
        return any(r[0] == 'rec' and s.store[r][1] == 'active' and key.startswith(s.store[r][0] + '.') for r in s.store)
    def rest(self, s):
        p = s.store.get(PTR)
        if s.ov: return   # what Vault's cache hides waits until the cache drops it
        if p is None: return
        if p[1] == 'unfinished': raise Violation('unfinished at rest')
        if p[1] == '' and any(g[0] == 'started' for g in s.ghost): raise Violation('an acknowledged rotation is gone')
        if p[1] == 'completed':
            for k in s.store:
                if k[0] == 'kek' and k[1] != p[0] and ('was current', k[1]) in s.ghost: raise Violation('completed, and old KEK %s is left' % k[1])
                if k[0] == 'key' and s.store[k][0] != p[0] and self.inuse(s, k[1]):
                    raise Violation('completed, and %s is on an old KEK' % (k,))

R = lambda i='q', after=(), retry=True: ('rotate', (i,), after, retry)
CR, EN, DE, SH = [(p, a, (), False) for p, a in (('create', ('b',)), ('encrypt', ('a',)), ('destroy', ('a',)), ('shred', ('a',)))]
def run(name, clients, err=1, crash=1, tmax=300, quiet=True, tenants=('a',), ext=True, kek=True, **rules):
    C.clear(); C.update(RULES); C.update(rules)
    mc._int.clear(); mc._tab.clear(); mc._nxt.clear()
    m = Kek(); m.clients = clients; m.err, m.crash, m.tenants, m.ext, m.kek = err, crash, tenants, ext, kek
    return m.run(name, quiet=quiet, tmax=tmax)

if __name__ == '__main__':
    only = sys.argv[1:]
    def go(name, *a, **k):
        if not only or any(o in name for o in only): run(name, *a, quiet=not only, **k)
    go('rotate', {'r': R()}, err=2)
    go('rotate twice', {'r': R(), 'r2': R('q2', ('r',))})
    go('rotate beside a first encrypt', {'r': R(), 'e': EN}, ext=False, err=2, crash=0)
    go('rotate beside a first encrypt, crash', {'r': R(), 'e': EN}, ext=False)
    go('rotate beside a creation', {'r': R(), 'c': CR}, tenants=())
    go('rotate beside a creation, two errors', {'r': R(), 'c': CR}, tenants=(), err=2, crash=0)
    go('rotate beside a destroy', {'r': R(), 'd': DE})
    go('rotate beside a shred', {'r': R(), 's': SH})
    go('rotate beside a first encrypt and a creation, two errors', {'r': R(), 'e': EN, 'c': CR}, tenants=('a',), ext=False, err=2, crash=0)
    go('make the first', {'c': CR, 'r': R('q', ('c',))}, tenants=(), kek=False)
    go('make the first, twice', {'c': CR, 'c2': ('create', ('a',), (), False)}, tenants=(), kek=False, err=2)
    TE = ('tell', (), (), False)
    go('rotate beside telling', {'r': R(), 't': TE}, err=1)
    go('rotate beside telling, two errors', {'r': R(), 't': TE}, err=2)
    go('rotate beside telling, three errors', {'r': R(), 't': TE}, err=3, crash=1)
    for rule, clients, kw in [
        ('settle', {'r': R(), 't': TE}, dict(err=3)),
        ('keyfirst', {'r': R(), 'c': CR}, dict(err=0)),
        ('lookagain', {'c': CR, 'c2': ('create', ('a',), (), False), 'r': R('q', ('c',))}, dict(tenants=(), kek=False, err=0, crash=0)),
        ('drain', {'r': R(), 'c': CR}, dict(tenants=(), err=0, crash=0)),
        ('tlock', {'r': R(), 'd': DE}, dict(err=0, crash=0)),
        ('listed', {'r': R(), 'd': DE}, dict(crash=0)),
        ('hidden', {'r': R(), 'e': EN}, dict(ext=False, crash=0)),
        ('hiddenrec', {'r': R(), 'c': CR}, dict(tenants=(), crash=0)),
        ('shredding', {'r': R(), 's': SH}, dict(err=0, crash=0)),
        ('again', {'r': R()}, dict(crash=0)),
        ('destroylast', {'r': R()}, dict(err=0, crash=0)),
        ('beforeend', {'r': R()}, dict(err=0)),
        ('idem', {'r': R()}, dict(err=0)),
        ('drop', {'r': R(), 'e': EN, 'c': CR}, dict(ext=False, err=2, crash=0, settle=0)),
    ]:
        go('without ' + rule + (', and without settle' if 'settle' in kw else ''), clients, **{rule: 0}, **kw)
    go('without lease', {'r': R(), 'e': EN, 'c': CR}, ext=False, err=2, crash=0, lease=0)
    go('without held', {'r': R(), 'e': EN, 'c': CR}, err=0, crash=0, ext=False, held=0)
    go('without held, and without drain', {'r': R(), 'c': CR}, tenants=(), err=0, crash=0, held=0, drain=0)
    go('without held, and without tlock', {'r': R(), 'e': EN}, ext=False, err=0, crash=0, held=0, drain=0, tlock=0)
