# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
"""A model of the schedule's index in memory: which tenant is looked at when, and that none is forgotten.

Storage: ('rec', t), the tenant's record, which is its entry in the list of tenants as well: a creation writes one entry,
List shows it (never cached), Get may show what was there before (`ov`, Vault's cache); ('set', 0), the interval of the
organization. A record is (incarnation, state, rotation unfinished, last rotated, date of its own, date of upkeep,
asked), its state A active, P paused, D deleting, S shredding. Memory: the index, which holds of each tenant what its
record said, and one generation, as of a stripe that all tenants share.

The clock jumps both ways. `crash` is a crash, or a failover with the old instance's writes still to land. Where nothing
runs, the index must be exact, but for tenants with a change that it cannot have been told of; and from there a day later,
with the cache dropped, and without a fault, everybody whose stored record says so must have been served.

RULES names what the implementation rests on; README.md says them in words. `python3 schedule.py` searches the protocol,
and then once without each of them; with words it runs what has them in its name, and prints how a violation comes about.
"""
import sys
from mc import *
import mc
RULES = dict(
    lease=1,       # what was read is kept only if the stripe's generation is what it was before the reading
    everytold=1,   # every write of a record raises the generation
    striped=1,     # the generation is the stripe's, not the entry's: it outlives a deletion
    again=1,       # a reading that may not be kept is repeated by who loads
    puttold=1,     # the index is told of every Put of a record
    after=1,       # after it, not before
    failtold=1,    # of one that failed, too: look now
    failraises=1,  # and the generation raised by that
    underlock=1,   # while the tenant's lock is still held
    gonetold=1,    # of a record's deletion
    repeattold=1,  # of what is acknowledged without a Put, since the record says it already
    daily=1,       # each shard is read again once a day
    back=1,        # and when the clock is before the last reading
    union=1,       # that reads the tenants in the index, too, not only those that List shows
    getdecides=1,  # an entry goes because the record was read and is not there, not because List does not show it
    errkept=1,     # of a record that cannot be read the index keeps an entry
    stays=1,       # to look takes nothing out
    locked=1,      # the record is read again under the lock, and decides
    facts=1,       # the index holds what the record says, not dates that depend on settings
    upkeep=1,      # a paused tenant has dates of upkeep
)
C = dict(RULES)
NEVER, DAY = 99, 2
SET = ('set', 0)
INC, STATE, ROT, LAST, OWN, KEEP, ASKED = range(7)

def but(r, **kw):
    names = dict(inc=INC, st=STATE, rot=ROT, last=LAST, own=OWN, keep=KEEP, asked=ASKED)
    r = list(r)
    for k, v in kw.items(): r[names[k]] = v
    return tuple(r)

def when(r, iv, real=True):
    """when the record says that there is something to do"""
    if r[STATE] == 'S': return 0
    if r[STATE] == 'D': return r[KEEP]
    if r[ROT]: return NEVER   # the write-ahead log sees to it
    w = NEVER if r[KEEP] is None else r[KEEP]
    if r[STATE] == 'P': return w if real or C['upkeep'] else NEVER
    return min(w, r[LAST] + iv if r[OWN] is None else r[OWN])

def commit(t, new):
    """the one change of a record, under the tenant's lock"""
    told = C['puttold'] if new is not None else C['gonetold']
    if told and not C['after']: yield ('mfun', 'told', t, new)
    r = yield (('put', ('rec', t), new) if new is not None else ('del', ('rec', t)))
    if not C['underlock']: yield ('unlock', t); yield ('nop',)
    if r == 'err':
        if C['failtold'] and C['after']: yield ('mfun', 'unsure', t)
    elif told and C['after']: yield ('mfun', 'told', t, new)
    return r

@prog
def boot():
    ts = yield ('ghost', 'unfinished')
    for t in ts: yield ('spawn', 'work ' + t, 'work', (t,))
    yield ('spawn', 'reader', 'reader', ())

@prog
def reader():
    """reads the shard, after a start and once a day"""
    began = yield ('ghost', 'now')
    ts = yield ('list', 'rec')
    if C['union'] and C['getdecides']: ts = yield ('ghost', 'union', ts)
    for t in ts:
        ok = False
        while not ok:
            g = yield ('ghost', 'lease', t)
            r = yield ('get', ('rec', t))
            ok = yield ('mfun', 'note', t, g, r)
            ok = ok or not C['again']
        g = r = ok = None
    yield ('ghost', 'complete', began, ts)

@prog
def tick():
    read = yield ('ghost', 'needsreading')
    if read: yield ('spawn', 'reader', 'reader', ())
    read = None
    iv = yield ('get', SET)
    ts = yield ('ghost', 'due', iv)
    for t in ts:
        g = yield ('ghost', 'lease', t)
        r = yield ('get', ('rec', t))
        g_, g = g, None
        if r == 'stop': return   # overtaken, or ended by a panic
        yield ('mfun', 'note', t, g_, r)
        g_ = None
        if r == 'err': continue
        if r is None: continue
        now = yield ('ghost', 'now')
        if when(r, iv) <= now: yield from serve(t, r)
        r = now = None

def serve(t, read):
    yield ('lock', t, 'X')
    r = yield ('get', ('rec', t))
    if not C['locked']: r = read
    read = None
    iv = yield ('ghost', 'interval')
    now = yield ('ghost', 'now')
    if r in (None, 'err', 'stop') or when(r, iv) > now:
        yield ('unlock', t); return
    yield ('ghost', 'serving', t, now, iv)
    if r[STATE] in 'DS':
        ok = 'ok'
        if r[STATE] == 'D': ok = yield from commit(t, but(r, st='S', rot=0))
        if ok == 'ok': yield from commit(t, None)
    elif r[KEEP] is not None and r[KEEP] <= now: yield from commit(t, but(r, keep=None))
    else:
        ok = yield from commit(t, but(r, rot=1, last=now, own=None))
        if ok == 'ok': yield ('spawn', 'work ' + t, 'work', (t,))
    yield ('unlock', t)

@prog
def work(t):
    """carries out a rotation: ends it"""
    yield ('lock', t, 'X')
    ok = 'err'
    while ok == 'err':
        r = yield ('get', ('rec', t))
        if r is None or not r[ROT]: return
        now = yield ('ghost', 'now')
        ok = yield from commit(t, but(r, rot=0, keep=now + 1))

@prog
def update(t, what, tries=2):
    """a request that changes the record; after an error it is sent once more"""
    ok = 'err'
    while ok == 'err' and tries:
        tries -= 1
        yield ('lock', t, 'X')
        r = yield ('get', ('rec', t))
        now = yield ('ghost', 'now')
        ok = 'refused'
        new = change(r, what, now)
        if new == r and r is not None:
            ok = 'ok'
            if C['repeattold']: yield ('mfun', 'told', t, r)
        elif new is not None:
            if what == 'create':
                n = yield ('fresh',)
                new = but(new, inc=n); n = None
            ok = yield from commit(t, new)
        if ok == 'ok': yield ('ghost', 'acked', t, new)
        r = new = now = None
        yield ('unlock', t)

def change(r, what, now):
    """what the record is to be; None: refused"""
    if what == 'create': return None if r is not None else (0, 'A', 0, now, None, None, 0)
    if r is None or r[STATE] == 'S' or r[STATE] == 'D' and what not in ('restore', 'delete'): return None
    return {'ask': but(r, own=0, asked=1) if not r[ASKED] else r,
            'pause': but(r, st='P'), 'unpause': but(r, st='A'),
            'delete': r if r[STATE] == 'D' else but(r, st='D', keep=now + 1),
            'restore': r if r[STATE] != 'D' else but(r, st='A', keep=None)}[what]

@prog
def shorten():
    r = 'err'
    while r == 'err': r = yield ('put', SET, 1)

class Schedule(Model):
    recover = ('boot', ()); neverread = (); evict = True; tenants = ('a',); first = {}; jumps = 1; late = True
    def init(self, s):
        s.ghost['clock'] = 1; s.ghost['jumps'] = self.jumps; s.ghost['late'] = ()
        s.store[SET] = 6
        for t in self.tenants: s.store[('rec', t)] = but((1, 'A', 0, 0, None, None, 0), **self.first)
        s.thr['boot'] = tstart('boot', ()); self.runeager(s, 'boot')
        self.lived = set()
    def ghost(self, s, slot, op):
        what = op[1]
        if what == 'now': return s.ghost['clock']
        if what == 'interval': return view(s, SET)
        if what in ('lease', 'union', 'complete', 'due', 'needsreading'): return getattr(self, what)(s, *op[2:])
        if what == 'unfinished': return tuple(k[1] for k in sorted(s.store) if k[0] == 'rec' and s.store[k][ROT])
        if what == 'acked' and s.store.get(('rec', op[2])) == op[3]: s.ghost.pop(('untold', op[2]), None)
        if what == 'serving':
            r = view(s, ('rec', op[2]))
            if r is None or when(r, op[4]) > op[3]: raise Violation('%s is served, and its record does not say so: %s' % (op[2], r))
    # The index.
    def generation(self, n, t): return n.mem.get('gen', 0) if C['striped'] else n.mem.get(('e', t), (0, 0, 0))[2]
    def put(self, n, t, r, at):
        """an entry: what the record says, when to look in spite of it, and what is kept with it under a mutation"""
        g, iv = n.mem.get(('e', t), (0, 0, 0))[2], None
        if not C['facts']: iv = view(n, SET)
        n.mem[('e', t)] = (r, at, g, iv)
    def changed(self, n, t):
        n.mem['gen'] = n.mem.get('gen', 0) + 1
        e = n.mem.get(('e', t))
        if e: n.mem[('e', t)] = e[:2] + (e[2] + 1,) + e[3:]
    def told(self, n, t, r):
        if r is None: n.mem.pop(('e', t), None)
        else: self.put(n, t, r, None)
        if C['everytold']: self.changed(n, t)
        if n.store.get(('rec', t)) == r: n.ghost.pop(('untold', t), None)
    def unsure(self, n, t):
        e = n.mem.get(('e', t)); self.put(n, t, e and e[0], 0)
        if C['failraises']: self.changed(n, t)
    def lease(self, n, t): return self.generation(n, t)
    def note(self, n, t, g, r):
        if C['lease'] and self.generation(n, t) != g: return False
        if r == 'err':
            if C['errkept']: e = n.mem.get(('e', t)); self.put(n, t, e and e[0], n.ghost['clock'] + 1)
        elif r is None: n.mem.pop(('e', t), None)
        else: self.put(n, t, r, None)
        return True
    def union(self, n, ts): return tuple(sorted(set(ts) | {k[1] for k in n.mem if k[0] == 'e'}))
    def complete(self, n, began, ts):
        n.mem['readat'] = began
        if not C['getdecides']:
            for k in [k for k in n.mem if k[0] == 'e' and k[1] not in ts]: del n.mem[k]
    def needsreading(self, n):
        at, now = n.mem.get('readat'), n.ghost['clock']
        return at is not None and bool(C['daily']) and (now - at >= DAY or C['back'] and now < at)
    def lookat(self, e, iv):
        r, at, _, own = e
        if at is not None or r is None: return at
        return when(r, iv if own is None else own, False)
    def due(self, n, iv):
        now = n.ghost['clock']
        ts = tuple(sorted(k[1] for k, e in n.mem.items() if k[0] == 'e' and self.lookat(e, iv) <= now))
        if not C['stays']:
            for t in ts: del n.mem[('e', t)]
        return ts
    # Faults.
    def step(self, s, slot, errs=True):
        op = mc._tab[s.thr[slot]][3]
        if op[0] == 'get' and op[1][0] == 'rec' and errs and s.err > 0 and slot[0] in 'rt':
            n = s.copy(); n.err -= 1; yield '%s: get %s ERROR' % (slot, op[1]), self.fin(n, slot, 'err')
            if slot[0] == 't': n = s.copy(); n.err -= 1; yield '%s: breaks off' % slot, self.fin(n, slot, 'stop')
        for l, n in super().step(s, slot, errs):
            if op[0] in ('put', 'del') and op[1][0] == 'rec' and n.store.get(op[1]) != s.store.get(op[1]):
                if l.endswith('cache stale'): n.ghost['untold', op[1][1]] = 1
            yield l, n
    def docrash(self, s, kind):
        n = super().docrash(s, kind)
        n.ghost = {k: v for k, v in n.ghost.items() if k[0] != 'untold' or ('rec', k[1]) in n.ov}
        return n
    def crashed(self, s, infl): pass
    def succ(self, s, errs=True, crash=True):
        yield from super().succ(s, errs, crash)
        c = s.ghost['clock']
        if s.ghost['jumps']:
            for to in {0, c + 1, c + 5} - {c}:
                n = s.copy(); n.ghost['clock'] = to; n.ghost['jumps'] -= 1; yield 'the clock goes from %d to %d' % (c, to), n
        if crash and s.crash > 0 and self.late:
            for slot in s.thr:
                op = mc._tab[s.thr[slot]][3]
                if op[0] in ('put', 'del') and op[1][0] == 'rec':
                    n = self.docrash(s, 'plugin'); n.crash -= 1; n.ov = {}
                    n.ghost['late'] = ((op[1], op[2] if op[0] == 'put' else None),)
                    if n.ghost['late'][0][1] and n.ghost['late'][0][1][STATE] == 'S': n.ghost['late'] += ((op[1], None),)
                    yield '*** failover, with %s of the old instance under way' % (op,), n
        for k, v in s.ghost['late'][:1]:
            n = s.copy(); old = view(s, k); n.ghost['late'] = s.ghost['late'][1:]; n.ghost['untold', k[1]] = 1
            if v is None: n.store.pop(k, None)
            else: n.store[k] = v
            n.ov.pop(k, None)
            yield "the old instance's write of %s lands: %s" % (k, v), n
            if old != v: n = n.copy(); n.ov[k] = old; yield "the old instance's write of %s lands behind the cache: %s" % (k, v), n
    # Properties.
    def exact(self, s, even=False):
        for t in {k[1] for k in list(s.store) + list(s.mem) if k[0] in ('rec', 'e')}:
            r, e = s.store.get(('rec', t)), s.mem.get(('e', t))
            if (e and e[0]) != r and not (e and e[1] is not None) and (even or ('untold', t) not in s.ghost):
                return 'record of %s: %s, index: %s' % (t, r, e)
            if r and e and e[1] is None and e[0] == r and self.lookat(e, s.store[SET]) > when(r, s.store[SET]):
                return '%s is looked at later than its record says' % t
            if even and (e and e[0]) != r: return 'record of %s: %s, index: %s' % (t, r, e)
    def check(self, s):
        if s.thr: return
        if 'readat' not in s.mem: raise Violation('the index is not complete')
        if not s.ov:
            bad = self.exact(s)
            if bad: raise Violation('not exact, and nothing happened that the index was not told of: ' + bad)
        key = (frozenset(s.store.items()), frozenset(s.mem.items()), s.ghost['clock'])
        if key in self.lived: return
        self.lived.add(key); self.live(s)
    def live(self, s):
        """a day passes without a fault"""
        n = s.copy(); n.ov = {}; n.pend = ()
        tr = []
        for i in range(5):
            if i in (0, 2): n.ghost['clock'] += DAY
            n.thr['tick'] = tstart('tick', ()); self.runeager(n, 'tick')
            while n.thr:
                for slot in sorted(n.thr):
                    x = next(self.step(n, slot, False), None)
                    if x: tr.append(x[0]); n = x[1]; break
                else: raise Violation('deadlock')
                if len(tr) > 300: raise Violation('no rest: %s' % tr[-12:])
        iv = n.store[SET]
        for k, r in n.store.items():
            if k[0] == 'rec' and when(r, iv) <= n.ghost['clock']: raise Violation('a day later %s is forgotten: %s' % (k[1], r))
        bad = self.exact(n, True)
        if bad: raise Violation('a day later: ' + bad)

def run(name, clients, err=1, crash=0, tmax=400, quiet=True, tenants=('a',), first={}, jumps=0, late=True, **rules):
    C.clear(); C.update(RULES); C.update(rules)
    mc._int.clear(); mc._tab.clear(); mc._nxt.clear()
    m = Schedule(); m.clients, m.err, m.crash, m.tenants, m.first, m.jumps, m.late = clients, err, crash, tenants, first, jumps, late
    return m.run(name, quiet=quiet, tmax=tmax)

TICK = ('tick', (), (), False)
def U(what, t='a', after=()): return ('update', (t, what), after, True)

if __name__ == '__main__':
    only = sys.argv[1:]
    def go(name, *a, **k):
        if not only or any(o in name for o in only): run(name, *a, quiet=not only, **k)
    go('asked, ticks', {'u': U('ask'), 't1': TICK, 't2': TICK}, err=2)
    go('asked, failover', {'u': U('ask'), 't1': TICK}, crash=1)
    go('by the interval, clock', {'t1': TICK, 't2': TICK}, jumps=2)
    go('by the interval, clock, failover', {'t1': TICK}, jumps=1, crash=1)
    go('asked beside the daily reading', {'u': U('ask'), 't1': TICK}, jumps=1)
    go('paused, and not', {'u': U('pause'), 'v': U('unpause', after=('u',)), 't1': TICK}, first=dict(own=0))
    go('paused, upkeep', {'u': U('unpause'), 't1': TICK}, first=dict(st='P', keep=2), jumps=1)
    go('deleted', {'u': U('delete'), 't1': TICK}, jumps=1, err=1)
    go('deleted, restored', {'u': U('delete'), 'v': U('restore'), 't1': TICK}, jumps=1)
    go('deleted, failover', {'t1': TICK}, first=dict(st='D', keep=1), crash=1)
    go('deleted, created again', {'t1': TICK, 'c': U('create')}, first=dict(st='D', keep=1))
    go('created', {'c': U('create'), 't1': TICK}, tenants=(), jumps=1)
    go('interval shortened', {'s': ('shorten', (), (), True), 't1': TICK}, jumps=1)
    go('two tenants', {'u': U('ask'), 't1': TICK}, tenants=('a', 'b'))
    for rule, clients, kw in [
        ('lease', {'u': U('ask')}, dict(err=0)),
        ('everytold', {'u': U('ask')}, dict(err=0)),
        ('striped', {'u': U('delete'), 't1': TICK}, dict(err=0, jumps=1)),
        ('again', {'u': U('ask', 'b')}, dict(tenants=('a', 'b'), err=0)),
        ('puttold', {'u': U('ask')}, dict(err=0)),
        ('after', {'t1': TICK}, dict(first=dict(own=0))),
        ('failtold', {'u': U('ask'), 't1': TICK}, {}),
        ('failraises', {'u': ('update', ('a', 'ask', 1), (), False)}, {}),
        ('underlock', {'u': U('pause'), 'v': U('unpause')}, dict(err=0)),
        ('getdecides', {'c': U('create')}, dict(tenants=('b',), err=0)),
        ('gonetold', {'t1': TICK}, dict(first=dict(st='D', keep=1), err=0)),
        ('repeattold', {'u': U('ask'), 't1': TICK}, {}),
        ('daily', {'u': U('ask'), 't1': TICK}, {}),
        ('daily, failover', {'u': U('ask')}, dict(err=0, crash=1, daily=0)),
        ('back', {'u': U('ask')}, dict(err=0, crash=1, jumps=2)),
        ('union', {'t1': TICK}, dict(first=dict(st='D', keep=6), err=0, crash=1, jumps=2)),
        ('errkept', {}, {}),
        ('stays', {'t1': TICK}, dict(first=dict(own=0))),
        ('locked', {'u': U('pause'), 't1': TICK}, dict(first=dict(own=0), err=0)),
        ('facts', {'s': ('shorten', (), (), True)}, dict(err=0, jumps=1)),
        ('upkeep', {}, dict(first=dict(st='P', keep=2), err=0)),
    ]:
        go('without ' + rule, clients, **{**({rule: 0} if rule in RULES else {}), **kw})
