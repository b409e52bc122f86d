# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
"""A model of the evidence log's appender: events that records carry, chunks, tiles, checkpoints.

Storage: ('rec', t), a tenant's record (seq of its latest event, events that may not be logged yet, and, for the
properties only, all its events); ('epoch', k), one for each start of an appender; ('chunk', (start, end, epoch)), the
entries from one size to another, with the root at the start; ('tile', size), for all hashes that the chunk completes;
('cp', size), the checkpoint. An event is (tenant, seq, what makes it unlike any other). Instead of a root
a chunk, a tile and a checkpoint hold all events up to their end. Get may show what was there before (`ov`, Vault's cache),
List never does.

A failover leaves an appender behind that goes on, with a write under way. The properties: of all that was ever signed,
stored or not, each is a prefix of the next; what is shown is stored; a stored checkpoint has its chunk and its tile; each
tenant's entries are its events, in their order, each once; where nothing runs and nothing is hidden, all of them.

`python3 evidence.py` searches the protocol, and then once without each of its RULES; with words it runs what has them in
its name, and prints how a violation comes about.
"""
import sys
from mc import *
import mc
RULES = dict(
    carried=1,    # the Put that decides carries the event
    after=1,      # the appender is told after it has succeeded
    whole=1,      # of all events that the record carries, not of the new one alone
    read=1,       # of those, too, that a reading of the record finds: after a start, a Put that failed, once a day
    locked=1,     # that reading holds the tenant's lock
    fence=1,      # and puts the record as it was read before the appender is told
    committed=1,  # a record drops an event once a stored checkpoint has it, and not before
    waits=1,      # a record goes only when its events are logged
    lookup=1,     # what the log has already is not appended
    order=1,      # chunk, tile, checkpoint
    same=1,       # a write that failed is repeated with the same bytes
    complete=1,   # a chunk that begins where the greatest checkpoint ends is completed, not replaced
    greatest=1,   # of several, the one of the greatest epoch
    own=1,        # and it is put again under the own epoch before it is signed
    named=1,      # a chunk bears its epoch in its name
    freshepoch=1, # an epoch is one more than the greatest that a List shows
    context=1,    # an instance that has been replaced signs nothing
    stored=1,     # a checkpoint is shown once its Put has succeeded
)
C = dict(RULES)

def put(k, v, inst):
    """puts an entry until that succeeds; False if the instance is over"""
    r = 'err'
    while r == 'err':
        alive = yield ('ghost', 'alive', inst)
        if C['context'] and not alive: return False
        r = yield ('put', k, v)
        if r == 'err' and not C['same'] and k[0] != 'epoch': return 'anew'
    return True

@prog
def decide(t, what):
    """a change of state with its event"""
    yield ('lock', t, 'X')
    r = yield ('ghost', 'view', t)
    if r is None: return
    n = yield ('fresh',)
    e = (t, r[0] + 1, n)
    keep = yield ('ghost', 'unlogged', t, r[1])
    new = (r[0] + 1, keep + (e,) if C['carried'] else (), r[2] + (e,))
    r = n = keep = None
    if not C['after']: yield ('ghost', 'tell', t, new[1])
    ok = yield ('put', ('rec', t), new)
    if ok == 'ok': yield ('ghost', 'tell', t, new[1] if C['whole'] and C['carried'] else (e,))
    else: yield ('spawn', 'look', 'look', ())
    if ok == 'ok' and what == 'shred':
        e = None
        if C['waits']: yield ('wait', 'islogged ' + t)
        gone = 'err'
        while gone == 'err': gone = yield ('del', ('rec', t))

@prog
def look():
    """the index reads the records"""
    ts = yield ('ghost', 'tenants')
    for t in ts:
        if C['locked']: yield ('lock', t, 'X')
        r = yield ('get', ('rec', t))
        if r is None: yield ('unlock', t); continue
        new = yield ('ghost', 'unlogged', t, r[1])
        ok = 'ok'
        if new and C['fence'] and C['locked']: ok = yield ('put', ('rec', t), r)
        while ok == 'err': ok = yield ('put', ('rec', t), r)
        if new and C['read']: yield ('ghost', 'tell', t, r[1])
        r = new = ok = None
        yield ('unlock', t)

@prog
def boot():
    yield ('spawn', 'look', 'look', ())
    yield ('spawn', 'app', 'appender', ())

@prog
def appender():
    inst = yield ('ghost', 'inst')
    head = yield ('ghost', 'head')
    while head is None: head = yield from adopt(inst)
    if head is False: return
    head, epoch = head
    while True:
        batch = yield ('ghost', 'batch', inst, head, epoch)
        if not batch: return   # until it is told of more
        new = head + batch; batch = None
        ok = yield from append((len(head), len(new), epoch), new, inst)
        if ok == 'anew': new = ok = None; continue
        if not ok: return
        head, new = new, None

def nameof(what, name):
    if what != 'chunk': return name[1]
    return name if C['named'] else (name[0], name[1], 0)

def append(name, new, inst, have=False):
    """writes a chunk, its tile and its checkpoint"""
    steps = ['chunk', 'tile', 'cp'] if C['order'] else ['cp', 'tile', 'chunk']
    for what in tuple(steps):
        steps = None
        if what == 'chunk' and have: continue
        if what == 'cp':
            alive = yield ('ghost', 'alive', inst)
            if C['context'] and not alive: return False
            yield ('ghost', 'sign', new)
            if not C['stored']: yield ('ghost', 'show', new)
        ok = yield from put((what, nameof(what, name)), new, inst)
        if ok is not True: return ok
        if what == 'cp': yield ('ghost', 'show', new)
    yield ('ghost', 'commit', inst, new)
    return True

def adopt(inst):
    """what is there, whoever wrote it: (head, epoch)"""
    k = yield ('ghost', 'epoch')
    ok = yield from put(('epoch', k), 1, inst)
    if not ok: return False
    while True:
        cps = yield ('list', 'cp')
        chunks = yield ('ghost', 'chunks')   # a List at the same moment: nothing between the two makes a difference
        n = max(cps, default=0); cps = None
        head = () if n == 0 else (yield ('get', ('cp', n)))
        if head is None:   # listed, and hidden: it is made again from its chunk, with the same bytes
            for name in sorted((c for c in chunks if c[1] == n), key=lambda c: -c[2]):
                head = yield ('get', ('chunk', name))
                if head is not None: break
            if head is None: raise Violation('neither checkpoint %d nor its chunk can be read' % n)
            ok = yield from put(('cp', n), head, inst)
            if ok is not True: return None if ok == 'anew' else False
        n = name = None
        yield ('ghost', 'commit', inst, head)
        found = None
        if C['complete']:
            for name in sorted((c for c in chunks if c[0] == len(head)), key=lambda c: -c[2] if C['greatest'] else c[2]):
                found = yield ('get', ('chunk', name))
                if found is not None: break
        chunks = None
        if found is None: return head, k
        ok = yield from append((name[0], name[1], k) if C['own'] else name, found, inst, not C['own'])
        if ok is not True: return None if ok == 'anew' else False
        head = found = name = None

class Evidence(Model):
    recover = ('boot', ()); neverread = (); evict = True; tenants = ('a',); failover = 0
    def init(self, s):
        s.ghost['inst'] = 1; s.ghost['signed'] = (); s.ghost['failover'] = self.failover
        for t in self.tenants: s.store[('rec', t)] = (0, (), ()); s.ghost['hist', t] = ()
        s.thr['boot'] = tstart('boot', ()); self.runeager(s, 'boot')
        self.lived = set()
    def ghost(self, s, slot, op):
        what, g = op[1], s.ghost
        if what == 'inst': return g['inst']
        if what == 'alive': return g['inst'] == op[2]
        if what == 'unlogged': return tuple(e for e in op[3] if e[1] > s.mem.get(('logged' if C['committed'] else 'handed', op[2]), 0))
        if what == 'view': return view(s, ('rec', op[2]))
        if what == 'tenants': return self.tenants
        if what == 'chunks': return lsub(s, 'chunk')
        if what == 'epoch': return max(lsub(s, 'epoch'), default=0) + 1 if C['freshepoch'] else 1
        if what == 'tell': self.tell(s, *op[2:])
        if what == 'commit': self.commit(s, *op[2:])
        if what == 'head': return s.mem.get('head')
        if what == 'batch': return self.batch(s, *op[2:])
        if what == 'sign':
            for old in g['signed']:
                if old != op[2][:len(old)] and op[2] != old[:len(op[2])]: raise Violation('signed: %s and %s' % (old, op[2]))
            g['signed'] = tuple(sorted(set(g['signed']) | {op[2]}))
        if what == 'show' and slot != 'old':
            if s.store.get(('cp', len(op[2]))) != op[2]: raise Violation('shown, and not stored: %s' % (op[2],))
    def tell(self, n, t, events):
        q = dict((e[1], e) for e in n.mem.get(('q', t), ()))
        for e in events: q[e[1]] = e
        if not q: return
        n.mem['q', t] = tuple(q[i] for i in sorted(q))
        if 'app' not in n.thr: n.thr['app'] = tstart('appender', ()); self.runeager(n, 'app')
    def batch(self, n, inst, head, epoch):
        if n.ghost['inst'] != inst: return ()
        n.mem['head'] = (head, epoch)
        out = ()
        for t in ('a', 'b'):
            have = n.mem.get(('logged', t), 0) if C['lookup'] else n.mem.get(('handed', t), 0)
            new = tuple(e for e in n.mem.get(('q', t), ()) if e[1] > have)
            if new: n.mem['handed', t] = new[-1][1]
            out += new
        return out
    def commit(self, n, inst, head):
        if n.ghost['inst'] != inst: return
        for t in ('a', 'b'):
            last = max((e[1] for e in head if e[0] == t), default=0)
            if not C['lookup']: last = n.mem.get(('handed', t), 0)
            if last: n.mem['logged', t] = last; n.mem['handed', t] = max(last, n.mem.get(('handed', t), 0))
            q = tuple(e for e in n.mem.get(('q', t), ()) if e[1] > last)
            if q: n.mem['q', t] = q
            else: n.mem.pop(('q', t), None)
    def oneff(self, s, k, v):
        if k[0] == 'rec' and v is not None: s.ghost['hist', k[1]] = v[2]
    def step(self, s, slot, errs=True):
        op = mc._tab[s.thr[slot]][3]
        if op[0] == 'wait' and op[1].startswith('islogged'):
            t = op[1][-1]
            if s.mem.get(('logged', t), 0) >= s.store[('rec', t)][0]: n = s.copy(); yield slot + ' has waited', self.fin(n, slot, None)
            return
        yield from super().step(s, slot, errs)
    def succ(self, s, errs=True, crash=True):
        yield from super().succ(s, errs, crash)
        if s.ghost['failover'] and 'app' in s.thr and 'old' not in s.thr:
            op = mc._tab[s.thr['app']][3]
            if op[0] == 'put':
                n = s.copy(); n.crash = 1; n = self.docrash(n, 'vault'); n.crash = s.crash
                n.thr['old'] = s.thr['app']; n.ghost['failover'] -= 1
                yield '*** failover, with %s %s of the old instance under way' % op[:2], n
    def docrash(self, s, kind):
        s = s.copy(); old = s.thr.get('old') if kind == 'plugin' else None
        s.ghost['inst'] += 1
        return super().docrash(s, kind)
    def check(self, s):
        for k, v in s.store.items():
            if k[0] != 'cp': continue
            before = max((x[1] for x in s.store if x[0] == 'cp' and x[1] < k[1]), default=0)
            chunk = max((x for x in s.store if x[0] == 'chunk' and x[1][:2] == (before, k[1])), default=None, key=lambda x: x[1][2])
            if s.store.get(chunk) != v: raise Violation('checkpoint %s has no chunk' % k[1])
            if s.store.get(('tile', k[1])) != v: raise Violation('checkpoint %s has no tile' % k[1])
            for t in ('a', 'b'):
                log = tuple(e for e in v if e[0] == t)
                if [e[1] for e in log] != list(range(1, len(log) + 1)): raise Violation('the entries of %s: %s' % (t, log))
                if log != s.ghost.get(('hist', t), ())[:len(log)]: raise Violation('entries that nothing decided: %s' % (log,))
        if not s.thr:
            key = (frozenset(s.store.items()), frozenset(s.mem.items()))
            if key not in self.lived: self.lived.add(key); self.live(s)
    def live(self, s):
        n = s.copy(); n.ov = {}; n.pend = (); steps = 0
        n.thr['look'] = tstart('look', ()); self.runeager(n, 'look')
        n.thr['app'] = tstart('appender', ()); self.runeager(n, 'app')
        while True:
            for slot in sorted(n.thr):
                x = next(self.step(n, slot, False), None)
                if x: n = x[1]; break
            else: break
            steps += 1
            if steps > 300: raise Violation('no rest')
        if n.thr: raise Violation('somebody waits for ever: %s' % sorted(n.thr))
        top = max((k[1] for k in n.store if k[0] == 'cp'), default=0)
        log = n.store.get(('cp', top), ())
        for t in self.tenants:
            if tuple(e for e in log if e[0] == t) != n.ghost['hist', t]: raise Violation('%s: decided %s, logged %s' % (t, n.ghost['hist', t], log))

def run(name, clients, err=1, crash=1, tmax=300, quiet=True, tenants=('a',), failover=0, **rules):
    C.clear(); C.update(RULES); C.update(rules)
    mc._int.clear(); mc._tab.clear(); mc._nxt.clear()
    m = Evidence(); m.clients, m.err, m.crash, m.tenants, m.failover = clients, err, crash, tenants, failover
    return m.run(name, quiet=quiet, tmax=tmax)

D = lambda t='a', what='', after=(): ('decide', (t, what), after, False)
if __name__ == '__main__':
    only = sys.argv[1:]
    def go(name, *a, **k):
        if not only or any(o in name for o in only): run(name, *a, quiet=not only, **k)
    go('one event', {'x': D()}, err=2)
    go('one after the other', {'x': D(), 'y': D(after=('x',))})
    go('one after the other, errors', {'x': D(), 'y': D(after=('x',))}, err=2, crash=0)
    go('two tenants', {'x': D(), 'y': D('b')}, tenants=('a', 'b'))
    go('two tenants, errors', {'x': D(), 'y': D('b')}, tenants=('a', 'b'), err=2, crash=0)
    go('shredded', {'x': D(), 'y': D(what='shred', after=('x',))})
    go('failover', {'x': D(), 'y': D()}, failover=1, crash=0)
    go('failover, crash', {'x': D(), 'y': D('b')}, tenants=('a', 'b'), failover=1, err=0)
    go('failover, failover', {'x': D(), 'y': D('b')}, tenants=('a', 'b'), failover=2, err=0, crash=0)
    go('failover, an error', {'x': D(), 'y': D('b')}, tenants=('a', 'b'), failover=1, crash=0)
    go('failover, failover, crash', {'x': D(), 'y': D('b')}, tenants=('a', 'b'), failover=2, err=0)
    go('three events', {'x': D(), 'y': D(after=('x',)), 'z': D('b')}, tenants=('a', 'b'))
    F = dict(tenants=('a', 'b'), failover=1, err=0)
    AB = {'x': D(), 'y': D('b')}
    for rule, clients, kw in [
        ('carried', {'x': D()}, dict(err=0)),
        ('after', {'x': D()}, dict(crash=0)),
        ('whole', {'x': D(), 'y': D(after=('x',))}, dict(failed=0, crash=0)),
        ('read', {'x': D()}, dict(err=0)),
        ('locked', {'x': D(), 'y': D(after=('x',))}, dict(crash=0)),
        ('fence', {'x': D(), 'y': D(after=('x',))}, dict(err=2, crash=0)),
        ('committed', {'x': D(), 'y': D(after=('x',))}, dict(err=0)),
        ('waits', {'x': D(what='shred')}, dict(err=0)),
        ('lookup', {'x': D()}, dict(err=0)),
        ('order', {'x': D()}, dict(err=0)),
        ('same', AB, dict(tenants=('a', 'b'), crash=0)),
        ('complete', AB, dict(tenants=('a', 'b'), err=0)),
        ('greatest', AB, F),
        ('own', AB, dict(F, failover=2)),
        ('named', AB, F),
        ('freshepoch', AB, F),
        ('context', AB, dict(F, crash=0)),
        ('stored', {'x': D()}, dict(err=0)),
    ]:
        go('without ' + rule, clients, **{**({rule: 0} if rule in RULES else {}), **kw})
