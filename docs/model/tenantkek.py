# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
"""A model of a tenant's own KEK beside the mount's: a tenant moves in, out and from one to another, while the mount's
KEK rotates, the tenant encrypts for the first time, is shredded, or is created under a KEK of its own; with a provider
that denies for as long as it likes, and a process that tells the evidence log again what either record carries.

Entries: PTR, the record of the mount's KEK, is (current KEK, state of its rotation, idempotency key, name), KEKs are
('kek', ('m', n)). A tenant's record ('rec', t) is (incarnation, state, own KEK or None, state of its move, idempotency
key, name), its own KEKs are ('tkek', 'incarnation.n'), which ('o', n) names. A key ('key', 'incarnation.name') is
(KEK, material). ('wal', t) is the intent of a creation. The name is that of a person whom a record means: 'here' if an
earlier version has stored it in the record, 'kept' if the record has the ID alone and ('who', …) has the name, '' if it
means nobody. Every Put of a record leaves the name out.

RULES are those of backend/internal/kekrotation and backend/internal/keystore, beside those of kek.py. `python3
tenantkek.py` searches the protocol, and then once without each of them; with words it runs what has them in its name,
and prints how a violation comes about.
"""
import sys
from mc import *
import mc
PTR = ('ptr', 0)
RULES = dict(
    keyfirst=1,   # an own KEK's entry is written before the record that names it
    ownrange=1,   # the mount's pass leaves keys alone that are on a tenant's own KEK
    ownkeks=1,    # and its end destroys no own KEK
    settled=1,    # but one that is on another own KEK than the record names is put again as it was read
    left=1,       # the mount's pass moves what is on an old KEK of the mount, whatever KEK the record names
    narrow=1,     # the end of a tenant's move destroys no KEK of the mount
    tlock=1,      # a tenant's keys are moved under its exclusive lock
    listed=1,     # and only those that a List under that lock shows
    hidden=1,     # a key that is listed, does not show, and is in no record, is deleted
    whole=1,      # a pass that the provider breaks off begins anew; one that ends the move has held the lock throughout
    destroyfirst=1,  # the KEKs that are left are destroyed before the record says that the move is over
    current=1,    # a key that moves out is wrapped under the KEK that is current for the mount, under the KEK's lock
    drain=1,      # the mount's passes begin by holding every tenant's lock once
    shredkeks=1,  # shredding takes a tenant's KEKs too
    fence=1,      # before a creation is undone, or its intent goes, the record is put, or deleted, as it was read
    undokeks=1,   # with its KEKs
    settle=1,     # a run of the mount's passes begins by putting its record again as it was read
    settlelock=1, # under the KEK's lock, after it was read there
    settlerec=1,  # a move puts the tenant's record again as it was read, before it destroys the KEKs that are left
    shredrec=1,   # a shredding that goes on puts it, too, before it destroys keys
    telllock=1,   # who tells the log again puts a record under the lock under which it has read it
    names=1,      # the name in a record is kept before any Put of the record
)
C = dict(RULES)
own = lambda inc, n: '%s.%d' % (inc, n)

def until(op, *a):
    r = yield (op,) + a
    while r == 'err': r = yield (op,) + a

def bare(rec):
    """a record as any Put stores it"""
    return rec[:-1] + ('kept' if rec[-1] == 'here' else rec[-1],)

def keep(of, name, once=False):
    """stores the name that a record has from an earlier version; says whether the record may be put"""
    if name != 'here' or not C['names']: return True
    w = yield ('get', ('who', of))
    if w is None:
        r = yield ('put', ('who', of), 1)
        while r == 'err' and not once: r = yield ('put', ('who', of), 1)
        return r != 'err'
    return True

def kekof(inc, k):
    """the entry of a KEK that a key names"""
    return ('kek', k) if k[0] == 'm' else ('tkek', own(inc, k[1]))

@prog
def rotate(idem):
    yield ('lock', 'K', 'X')
    p = yield ('get', PTR)
    if p[1] == 'unfinished' or p[2] == idem: return
    n = yield ('fresh',)
    r = yield ('put', ('kek', ('m', n)), 1)
    if r == 'err': return
    r = yield ('put', PTR, (('m', n), 'unfinished', idem, ''))
    if r == 'err': return
    yield ('spawn', 'worker', 'worker', ())

@prog
def move(idem, to):
    """moves tenant a under a KEK of its own, or back to the mount's"""
    yield ('lock', 'a', 'X')
    rec = yield ('get', ('rec', 'a'))
    if rec is None or rec[1] != 'active' or rec[3] == 'unfinished' or rec[4] == idem: return
    n = None
    if to == 'own':
        n = yield ('fresh',)
        if C['keyfirst']:
            r = yield ('put', ('tkek', own(rec[0], n)), 1)
            if r == 'err': return
    ok = yield from keep('a', rec[-1], once=True)
    if not ok: return
    r = yield ('put', ('rec', 'a'), (rec[0], 'active', n, 'unfinished', idem, bare(rec)[-1]))
    if r == 'err': return
    if to == 'own' and not C['keyfirst']: yield from until('put', ('tkek', own(rec[0], n)), 1)
    yield ('ghost', 'moved', idem)
    yield ('unlock', 'a')
    yield ('spawn', 'mover', 'mover', ())

@prog
def recover():
    wals = yield ('list', 'wal')
    for t in wals:
        inc = yield ('get', ('wal', t))
        if inc is None: continue
        yield ('lock', t, 'X')
        rec = yield ('get', ('rec', t))
        if C['fence'] and rec is None: yield from until('del', ('rec', t))
        elif C['fence']:
            yield from keep(t, rec[-1])
            yield from until('put', ('rec', t), bare(rec))
        if rec is None or rec[0] != inc:
            keys = yield ('list', 'key')
            for k in keys:
                if k.startswith(inc + '.'): yield from until('del', ('key', k))
            keks = yield ('list', 'tkek')
            for k in keks:
                if C['undokeks'] and k.startswith(inc + '.'): yield from until('del', ('tkek', k))
            keys = k = keks = None
        yield from until('del', ('wal', t))
        yield ('unlock', t)
    wals = t = inc = rec = None
    p = yield ('get', PTR)
    if p[1] == 'unfinished': yield ('spawn', 'worker', 'worker', ())
    rec = yield ('get', ('rec', 'a'))
    if rec is not None and rec[3] == 'unfinished': yield ('spawn', 'mover', 'mover', ())
    elif rec is not None and rec[1] == 'shredding': yield ('spawn', 'shredder', 'shred', ())

@prog
def worker():
    """the passes of the mount's KEK, over all tenants"""
    p = yield ('get', PTR)
    if p[1] != 'unfinished': return
    if C['settle']:
        yield from keep('m', p[-1])
        if C['settlelock']:
            yield ('lock', 'K', 'X')
            now = yield ('get', PTR)
            if now[:2] != p[:2]: return
            p = now
        yield from until('put', PTR, bare(p))
        yield ('unlock', 'K')
        now = None
        p = bare(p)
    if C['drain']:
        for t in ('a', 'b'):
            yield ('lock', t, 'X'); yield ('unlock', t)
    clean = False
    while not clean:
        clean = True
        for t in ('a', 'b'):
            yield ('lock', t, 'X')
            rec = yield ('get', ('rec', t))
            if rec is not None and rec[1] == 'active' and (C['left'] or rec[2] is None):
                keys = yield ('list', 'key')
                for k in keys:
                    if not k.startswith(rec[0] + '.'): continue
                    w = yield ('get', ('key', k))
                    if w is None:
                        if C['hidden'] and k.endswith('.ext'): yield from until('del', ('key', k)); clean = False
                    elif w[0] != p[0] and (w[0][0] == 'm' or not C['ownrange']):
                        kek = yield ('get', kekof(rec[0], w[0]))
                        if kek is None: raise Violation('worker: %s needs destroyed KEK %s' % (k, w[0]))
                        kek = None
                        yield from until('put', ('key', k), (p[0], w[1])); clean = False
                    elif C['settled'] and w[0][0] == 'o' and w[0][1] != rec[2]:
                        yield from until('put', ('key', k), w)
                k = w = keys = None
            rec = None
            yield ('unlock', t)
    yield ('lock', 'K', 'X')
    now = yield ('get', PTR)
    if now[:2] != p[:2]: return
    p, now = now, None
    keks = yield ('list', 'kek')
    for k in keks:
        if k != p[0]: yield from until('del', ('kek', k))
    if not C['ownkeks']:
        keks = yield ('list', 'tkek')
        for k in keks: yield from until('del', ('tkek', k))
    yield from until('put', PTR, (p[0], 'completed', p[2], bare(p)[-1]))

@prog
def tell():
    """puts the record of the mount's KEK again as it was read, since the log lacks an event that it carries"""
    p = yield ('get', PTR)
    ok = yield from keep('m', p[-1], once=True)
    if not ok: return
    if C['telllock']:
        yield ('lock', 'K', 'X')
        p = yield ('get', PTR)
    yield ('put', PTR, bare(p))

@prog
def tell_tenant():
    """the same of tenant a's"""
    if C['telllock']: yield ('lock', 'a', 'X')
    rec = yield ('get', ('rec', 'a'))
    if rec is None: return
    ok = yield from keep('a', rec[-1], once=True)
    if not ok: return
    yield ('put', ('rec', 'a'), bare(rec))

@prog
def mover():
    """the passes of tenant a's own KEK"""
    while True:
        if C['tlock']: yield ('lock', 'a', 'X')
        rec = yield ('get', ('rec', 'a'))
        if rec is None or rec[1] != 'active' or rec[3] != 'unfinished': return
        to = None if rec[2] is None else ('o', rec[2])
        if to is None and C['current']:
            yield ('lock', 'K', 'S')
        if to is None:
            p = yield ('get', PTR)
            to = p[0]
            p = None
            if not C['current']: yield ('nop',)
        keys = yield ('list', 'key')
        if not C['listed']: keys = (rec[0] + '.ext', rec[0] + '.plc')
        denied = False
        for k in keys:
            if not k.startswith(rec[0] + '.'): continue
            w = yield ('get', ('key', k))
            if w is None:
                if C['hidden'] and k.endswith('.ext'): yield from until('del', ('key', k))
            elif w[0] != to:
                kek = yield ('get', kekof(rec[0], w[0]))
                if kek is None: raise Violation('mover: %s needs destroyed KEK %s' % (k, w[0]))
                kek = None
                deny = yield ('mget', 'deny')
                if deny:
                    denied = True
                    break
                yield from until('put', ('key', k), (to, w[1]))
        k = w = keys = deny = None
        if to[0] == 'm': yield ('unlock', 'K')
        if not (denied and C['whole']):
            yield from keep('a', rec[-1])
            if C['settlerec']: yield from until('put', ('rec', 'a'), bare(rec))
            keks = yield ('list', 'tkek')
            for k in keks:
                if C['destroyfirst'] and k.startswith(rec[0] + '.') and k != own(rec[0], rec[2] or 0): yield from until('del', ('tkek', k))
            if not C['narrow']:
                keks = yield ('list', 'kek')
                for k in keks: yield from until('del', ('kek', k))
            yield from until('put', ('rec', 'a'), (rec[0], 'active', rec[2], 'completed', rec[4], bare(rec)[-1]))
            for k in keks:
                if not C['destroyfirst'] and k.startswith(rec[0] + '.') and k != own(rec[0], rec[2] or 0): yield from until('del', ('tkek', k))
            return
        rec = to = None
        yield ('unlock', 'a')
        if denied: yield ('wait', 'answers')

@prog
def deny():
    yield ('mset', 'deny', 1)
    yield ('nop',)
    yield ('mset', 'deny', None)

def wrap(inc, n, key):
    """CreateKey: new material under the tenant's KEK n, or the mount's; the tenant's lock is held"""
    if n is None:
        yield ('lock', 'K', 'S')
        p = yield ('get', PTR)
        to = p[0]
        p = None
    else: to = ('o', n)
    kek = yield ('get', kekof(inc, to))
    if kek is None: raise Violation('wrap: the current KEK %s is gone' % (to,))
    kek = None
    m = yield ('fresh',)
    r = yield ('put', ('key', key), (to, m))
    if n is None: yield ('unlock', 'K')
    return None if r == 'err' else m

@prog
def encrypt():
    yield ('lock', 'a', 'X')
    rec = yield ('get', ('rec', 'a'))
    if rec is None or rec[1] != 'active': return
    w = yield ('get', ('key', rec[0] + '.ext'))
    if w is None:
        m = yield from wrap(rec[0], rec[2], rec[0] + '.ext')
        if m is None: return
    else:
        kek = yield ('get', kekof(rec[0], w[0]))
        if kek is None: raise Violation('encrypt: %s needs destroyed KEK %s' % (rec[0], w[0]))
        m = w[1]
    yield ('ghost', 'sealed', rec[0], m)

@prog
def destroy():
    """destroys the external key of a; the record knows nothing of it"""
    yield ('lock', 'a', 'X')
    rec = yield ('get', ('rec', 'a'))
    if rec is None or rec[1] != 'active': return
    yield ('ghost', 'ending', rec[0])
    yield ('del', ('key', rec[0] + '.ext'))

@prog
def create(stays=False):
    """creates tenant b under a KEK of its own; its intent stays if it shares an entry with others that are not over"""
    yield ('lock', 'b', 'X')
    rec = yield ('get', ('rec', 'b'))
    if rec is not None: return
    n = yield ('fresh',)
    inc = 'b%d' % n
    r = yield ('put', ('wal', 'b'), inc)
    if r == 'err': return
    r = yield ('put', ('tkek', own(inc, n)), 1)
    if r == 'err': yield ('spawn', 'recover', 'recover', ()); return
    m = yield from wrap(inc, n, inc + '.plc')
    if m is None: yield ('spawn', 'recover', 'recover', ()); return
    r = yield ('put', ('rec', 'b'), (inc, 'active', n, '', 0, ''))
    if r == 'err': yield ('spawn', 'recover', 'recover', ()); return
    yield ('ghost', 'created', 'b')
    if not stays: yield ('del', ('wal', 'b'))

@prog
def shred():
    yield ('lock', 'a', 'X')
    rec = yield ('get', ('rec', 'a'))
    if rec is None: return
    yield ('ghost', 'ending', rec[0])
    ok = yield from keep('a', rec[-1], once=True)
    if not ok: return
    if rec[1] == 'active' or C['shredrec']:
        r = yield ('put', ('rec', 'a'), (rec[0], 'shredding', rec[2], '', rec[4], bare(rec)[-1]))
        if r == 'err': return
    yield ('unlock', 'a')
    keys = yield ('list', 'key')
    for k in keys:
        if k.startswith(rec[0] + '.'): yield from until('del', ('key', k))
    keys = yield ('list', 'tkek')
    for k in keys:
        if C['shredkeks'] and k.startswith(rec[0] + '.'): yield from until('del', ('tkek', k))
    keys = k = None
    yield ('lock', 'a', 'X')
    yield from until('del', ('rec', 'a'))

class TenantKEK(Model):
    recover = ('recover', ()); neverread = (); evict = busytick = True; start = None; ext = True; old = None
    def init(self, s):
        s.store = {PTR: (('m', 1), '', 0, ''), ('kek', ('m', 1)): 1}
        kek = ('m', 1)
        if self.start is not None:
            kek = ('o', self.start); s.store[('tkek', own('a0', self.start))] = 1
        s.store[('rec', 'a')] = ('a0', 'active', self.start, '', 0, '')
        s.store[('key', 'a0.plc')] = (kek, 'ta'); s.ghost['material', 'a0.plc'] = 'ta'
        if self.old == 'mount':   # an earlier version has begun a rotation
            s.store[PTR] = (('m', 2), 'unfinished', 1, 'here'); s.store[('kek', ('m', 2))] = 1
        if self.old == 'tenant': s.store[('rec', 'a')] = ('a0', 'active', self.start, '', 0, 'here')
        if self.ext:
            s.store[('key', 'a0.ext')] = (kek, 'ea'); s.ghost['material', 'a0.ext'] = 'ea'; s.ghost['sealed', 'a0'] = ('ea',)
    def answers(self, s): return ('deny') not in s.mem
    def needtick(self, s):
        p, rec = view(s, PTR), view(s, ('rec', 'a'))
        return p[1] == 'unfinished' or rec is not None and (rec[3] == 'unfinished' or rec[1] == 'shredding') or any(k[0] == 'wal' for k in s.store)
    def ghost(self, s, slot, op):
        what, args = op[1], op[2:]
        if what == 'sealed': s.ghost['sealed', args[0]] = tuple(sorted(set(s.ghost.get(('sealed', args[0]), ())) | {args[1]}, key=str))
        elif what == 'ending': s.ghost.pop(('sealed', args[0]), None); s.ghost['ending'] = 1
        elif what == 'moved': s.ghost['moved'] = args[0]
        elif what == 'created': s.ghost['created', args[0]] = 1
    def oneff(self, s, k, v):
        if k[0] != 'key': return
        if v is None: s.ghost['deleted', s.ghost.pop(('material', k[1]), None)] = 1
        else:
            if ('deleted', v[1]) in s.ghost: raise Violation('a deleted key is back: %s' % k[1])
            s.ghost['material', k[1]] = v[1]
    def check(self, s):
        for k in s.store:
            if k == PTR or k[0] == 'rec':
                of = 'm' if k == PTR else k[1]
                for rec in (s.store[k], view(s, k)):
                    if rec is not None and rec[-1] == 'kept' and ('who', of) not in s.store: raise Violation('a name is lost')
            if k[0] != 'rec': continue
            inc, state, n = s.store[k][:3]
            if state == 'shredding': continue
            if n is not None and ('tkek', own(inc, n)) not in s.store: raise Violation('the own KEK of %s is gone' % inc)
            for name in ('plc', 'ext'):
                key = ('key', '%s.%s' % (inc, name))
                if name == 'plc' and key not in s.store: raise Violation('%s lost' % (key,))
                for nm, w in (('disk', s.store.get(key)), ('cache', view(s, key))):
                    if w is None or key not in s.store: continue
                    if kekof(inc, w[0]) not in s.store: raise Violation('%s (%s) names KEK %s, which is destroyed' % (key, nm, w[0]))
        for g, val in s.ghost.items():
            if g[0] == 'sealed':
                for nm, w in (('disk', s.store.get(('key', g[1] + '.ext'))), ('cache', view(s, ('key', g[1] + '.ext')))):
                    if len(val) > 1 or w is None or w[1] != val[0]: raise Violation('sealed under %s, key (%s) is %s' % (val, nm, w))
            if g[0] == 'created' and view(s, ('rec', g[1])) is None: raise Violation('an acknowledged tenant is gone')
        if ('kek', s.store[PTR][0]) not in s.store: raise Violation('the current KEK of the mount is gone')
    def rest(self, s):
        if s.ov: return   # what Vault's cache hides waits until the cache drops it
        p, rec = s.store[PTR], s.store.get(('rec', 'a'))
        incs = {s.store[k][0]: s.store[k] for k in s.store if k[0] == 'rec'}
        if rec is not None and 'moved' in s.ghost and rec[4] == 0: raise Violation('an acknowledged move is gone')
        for k in s.store:
            if k[0] in ('key', 'tkek') and k[1].split('.')[0] not in incs: raise Violation('%s is left' % (k,))
            if k[0] == 'tkek':
                inc, n = k[1].split('.')
                if incs[inc][3] == 'completed' and incs[inc][2] != int(n): raise Violation('completed, and own KEK %s is left' % n)
            if k[0] == 'key':
                r = incs[k[1].split('.')[0]]
                # A switch whose Put failed may be undone by who tells the log again: then a key that
                # has moved out meanwhile is on the KEK of that switch until the next rotation.
                undone = r[2] is None and p[1] == '' and 'tell' in [c[0] for c in self.clients.values()]
                if r[3] == 'completed' and not undone and s.store[k][0] != (p[0] if r[2] is None else ('o', r[2])):
                    raise Violation('completed, and %s is on %s' % (k, s.store[k][0]))

R = ('rotate', ('q',), (), False)
M = lambda to='own', i='m', after=(): ('move', (i, to), after, False)
EN, SH, CR, DE, DS, TM, TT = [(p, (), (), False) for p in ('encrypt', 'shred', 'create', 'deny', 'destroy', 'tell', 'tell_tenant')]
def run(name, clients, err=1, crash=1, tmax=300, quiet=True, start=None, ext=True, old=None, **rules):
    C.clear(); C.update(RULES); C.update(rules)
    mc._int.clear(); mc._tab.clear(); mc._nxt.clear()
    m = TenantKEK(); m.clients = clients; m.err, m.crash, m.start, m.ext, m.old = err, crash, start, ext, old
    return m.run(name, quiet=quiet, tmax=tmax)

if __name__ == '__main__':
    only = sys.argv[1:]
    def go(name, *a, **k):
        if not only or any(o in name for o in only): run(name, *a, quiet=not only, **k)
    go('move in', {'m': M()}, err=2)
    go('move out', {'m': M('mount')}, start=5, err=2)
    go('move from one to another', {'m': M()}, start=5, err=2)
    go('move in, and out again', {'m': M(), 'o': M('mount', 'n', ('m',))}, err=1, crash=1, ext=False)
    go('move in while the KEK rotates', {'m': M(), 'r': R}, ext=False)
    go('move in while the KEK rotates, no crash', {'m': M(), 'r': R}, crash=0)
    go('move out while the KEK rotates', {'m': M('mount'), 'r': R}, start=5, ext=False)
    go('move in beside a first encrypt', {'m': M(), 'e': EN}, ext=False, err=2, crash=0)
    go('move in beside a first encrypt, crash', {'m': M(), 'e': EN}, ext=False)
    go('move out beside a first encrypt', {'m': M('mount'), 'e': EN}, start=5, ext=False)
    go('move in beside a destroy', {'m': M(), 'x': DS})
    go('move in beside a shred', {'m': M(), 's': SH})
    go('move out beside a shred', {'m': M('mount'), 's': SH}, start=5)
    go('move in with a provider that denies', {'m': M(), 'd': DE})
    go('move out with a provider that denies', {'m': M('mount'), 'd': DE}, start=5)
    go('create under an own KEK', {'c': CR}, err=2, ext=False)
    go('create under an own KEK while the KEK rotates', {'c': CR, 'r': R}, ext=False)
    go('create under an own KEK, whose intent stays', {'c': ('create', (True,), (), False)}, err=2, ext=False)
    go('create while the KEK rotates, and the intent stays', {'c': ('create', (True,), (), False), 'r': R}, ext=False)
    go('move while the log is told', {'m': M(), 't': TT}, start=5, err=2, ext=False)
    go('move out while the log is told', {'m': M('mount'), 't': TT}, start=5, err=2, ext=False)
    go('shred while the log is told', {'s': SH, 't': TT}, start=5, err=2, ext=False)
    go('the KEK rotates while the log is told', {'r': R, 't': TM}, err=2, ext=False)
    go('the KEK rotates while the log is told, and the tenant moves out', {'r': R, 't': TM, 'm': M('mount')}, start=5, err=2, crash=1, ext=False)
    go('the same, and the KEK rotates again', {'r': R, 't': TM, 'm': M('mount'), 'n': ('rotate', ('n',), ('m', 'r', 't'), False)}, start=5, err=2, crash=0, ext=False)
    go('rotation of an earlier version', {'t': TM}, old='mount', err=2)
    go('rotation of an earlier version while a tenant moves in', {'m': M()}, old='mount', err=2, ext=False)
    go('record of an earlier version moves', {'m': M(), 't': TT}, old='tenant', start=5, ext=False)
    go('record of an earlier version is shredded', {'s': SH, 't': TT}, old='tenant', start=5, ext=False)
    for rule, clients, kw in [
        ('keyfirst', {'m': M()}, dict(err=0)),
        ('ownrange', {'r': R, 'm': M()}, dict(err=0, crash=0)),
        ('ownkeks', {'r': R}, dict(start=5, err=0, crash=0)),
        ('settled', {'m': M('mount'), 'r': R}, dict(start=5, ext=False)),
        ('left', {'m': M(), 'r': R}, dict(err=0, crash=0)),
        ('narrow', {'m': M()}, dict(err=0, crash=0)),
        ('tlock', {'m': M(), 'x': DS}, dict(err=0, crash=0)),
        ('listed', {'m': M(), 'x': DS}, dict(crash=0)),
        ('hidden', {'m': M(), 'e': EN}, dict(ext=False, crash=0)),
        ('whole', {'m': M(), 'd': DE}, dict(err=0, crash=0)),
        ('destroyfirst', {'m': M('mount')}, dict(start=5, err=0)),
        ('shredkeks', {'s': SH}, dict(start=5, err=0, crash=0)),
        ('fence', {'c': CR}, dict(ext=False)),
        ('undokeks', {'c': CR}, dict(ext=False, err=0)),
        ('settle', {'r': R, 't': TM}, dict(ext=False, err=2)),
        ('settlelock', {'r': R, 't': TM}, dict(ext=False, err=2)),
        ('settlerec', {'m': M(), 't': TT}, dict(start=5, ext=False, err=2)),
        ('shredrec', {'s': SH, 't': TT}, dict(start=5, ext=False, err=2)),
        ('telllock', {'m': M(), 't': TT}, dict(start=5, ext=False, err=2)),
        ('telllock (the mount)', {'r': R, 't': TM}, dict(ext=False, err=2)),
        ('names', {'t': TM}, dict(old='mount', err=0)),
        ('names (a tenant)', {'m': M()}, dict(old='tenant', err=0)),
    ]:
        go('without ' + rule, clients, **{rule.split()[0]: 0}, **kw)
    out = {'m': M('mount'), 'r': R}
    go('without current', out, start=5, err=0, crash=0, current=0)
    go('without drain', out, start=5, err=0, crash=0, drain=0)
    go('without current, and without drain', out, start=5, err=0, crash=0, current=0, drain=0)
