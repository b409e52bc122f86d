# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
"""A model of requests for many rotations (a leaked key): whatever is done to a tenant meanwhile, it is rotated, or
`status` names it with the reason.

Storage: ('rec', t), the tenant's record, a Rec below; ('set', 0), the settings: the number of the latest campaign
(`rotations all=true`), that of the latest with include_paused, the IDs of the requests, and the interval of the
organization. A rotation is (version made, version left, number of the campaign that its start read, phase, paused, ID); the
latest that ended is (version, campaign, how, version left, ID): C completed, R rolled back, F failed. A request for one tenant is (first version that
serves it, include_paused, IDs of requests, served).

The truth is kept beside: which request began, was stored and was acknowledged when, and which rotation started after it and completed. In every
state, whoever is owed a rotation must be named by `status` with a reason that is true; nobody is rotated without cause;
and where nothing runs, days later and without another fault, only those are owed one whom somebody holds back.

`python3 campaign.py` searches the protocol against every action and every two, and then once without each of its RULES;
with words it runs what has them in its name, and prints how a violation comes about.
"""
import sys
from collections import namedtuple
from mc import *
import mc
RULES = dict(
    number=1,      # campaigns are told by a number, not by a time
    ahead=1,       # which is at least the clock, so that settings lost and written anew do not begin below the records
    atstart=1,     # what a rotation serves is what its start has read, not what there is when it ends
    completion=1,  # only a rotation that completes serves a request, not its start
    failed=1,      # one that failed has not
    retrykeeps=1,  # a retry clears nothing
    below=1,       # a request is served by versions that were not there when it was made
    deletekeeps=1, # deleting clears nothing
    restorekeeps=1,# nor does restoring
    stays=1,       # the campaign stays in the settings when a round finds nobody to rotate
    include=1,     # include_paused of an earlier request is not taken back by a later one
    ids=1,         # a repeated request is told by its ID, also once it is served
    merged=1,      # also if another request came in between
    created=1,     # a new tenant owes nothing to campaigns from before
    putoff=1,      # a back-off counts only against what the attempt before it was for
    bounded=1,     # and no back-off is longer than the longest there is
    retries=1,     # what failed, and serves, is tried again: no new version
    slock=1,       # settings are changed under a lock
    cancelnames=1, # `status` names those whose back-off runs, and the paused, and the deleting
)
C = dict(RULES)
SET, BACK = ('set', 0), 1
Rec = namedtuple('Rec', 'inc st paused act nxt rot last camp req until at')
Rot = namedtuple('Rot', 'to frm camp phase paused id')
Req = namedtuple('Req', 'below incl ids served')
Set = namedtuple('Set', 'seq incl ids at interval')

def owes(r, c):
    """whether the tenant owes a rotation to the campaign, and to a request of its own"""
    camp = r.camp < c.seq if C['number'] else c.seq > 0 and r.at < c.at
    return camp, r.req is not None and not r.req.served

def covered(r, c):
    """whether the latest attempt was for all that is owed"""
    camp, own = owes(r, c)
    return r.last is not None and (not camp or r.last[1] >= c.seq) and (not own or r.last[0] >= r.req.below)

def status(r, c, now):
    if not any(owes(r, c)): return None
    if r.st == 'D': return 'deleting' if C['cancelnames'] else None
    if r.rot: return 'rotation paused' if r.rot.paused else 'rotating'
    camp, own = owes(r, c)
    if r.paused and not (camp and r.camp < c.incl or own and r.req.incl): return 'paused' if C['cancelnames'] else None
    if r.until is not None and now < r.until and (r.until - now <= BACK or not C['bounded']) and (covered(r, c) or not C['putoff']):
        return 'waits' if C['cancelnames'] else None
    return 'due'

def commit(t, new):
    r = yield (('put', ('rec', t), new) if new is not None else ('del', ('rec', t)))
    return r

@prog
def boot():
    ts = yield ('ghost', 'unfinished')
    for t in ts: yield ('spawn', 'work ' + t, 'work', (t,))

@prog
def tick(t):
    yield ('lock', t, 'X')
    r, c, now = yield ('ghost', 'read', t)
    if r is None: return
    if r.rot and not r.rot.paused: yield ('spawn', 'work ' + t, 'work', (t,))   # the write-ahead log is read once a minute
    if r.st != 'A' or status(r, c, now) != 'due': return
    if C['retries'] and r.last and r.last[2] == 'F' and covered(r, c): new = again(r)
    else:
        yield ('ghost', 'starting', t)
        n = yield ('fresh',)
        new = started(r, c, now, n)
    ok = yield from commit(t, new)
    if ok == 'ok': yield ('spawn', 'work ' + t, 'work', (t,))

def started(r, c, now, n):
    new = r._replace(rot=Rot(r.nxt, r.act, c.seq, 'sweep', 0, n), act=r.nxt, nxt=r.nxt + 1, until=None, at=now)
    if not C['completion']: new = served(new, new.rot, c)
    return new

def again(r):
    to, camp, _, frm, n = r.last
    new = r._replace(rot=Rot(to, frm, camp, 'sweep', 0, n), last=None, until=None)
    if not C['retrykeeps'] and new.req: new = new._replace(req=new.req._replace(served=1))
    return new

def served(r, rot, c):
    r = r._replace(camp=max(r.camp, rot.camp if C['atstart'] else c.seq))
    if r.req and (rot.to >= r.req.below or not C['below']): r = r._replace(req=r.req._replace(served=1))
    return r

@prog
def work(t):
    """carries a rotation out: the sweep is the time until this gets the lock"""
    ok = 'err'
    while ok == 'err':
        yield ('lock', t, 'X')
        r, c, now = yield ('ghost', 'read', t)
        if r is None or not r.rot or r.rot.paused: return
        how = 'R'
        if r.rot.phase == 'sweep': how = yield ('sweep',)
        new = r._replace(rot=None, last=(r.rot.to, r.rot.camp, how, r.rot.frm, r.rot.id))
        if how == 'C' or how == 'F' and not C['failed']: new = served(new, r.rot, c)
        if any(owes(new, c)) and how != 'C': new = new._replace(until=now + BACK)
        ok = yield from commit(t, new)
        r = c = now = new = how = None
        yield ('unlock', t)

def changed(r, c, what, now, n):
    """what an action makes of the record; None: refused"""
    if what == 'nothing': return None
    if what == 'create': return Rec(n, 'A', 0, 1, 2, None, None, c.seq if C['created'] else 0, None, None, now) if r is None else None
    if r is None: return None
    if what == 'restore':
        if r.st != 'D': return None
        return r._replace(st='A') if C['restorekeeps'] else r._replace(st='A', req=None)
    if what == 'shred': return r._replace(st='S', rot=None) if r.st == 'D' else None
    if r.st != 'A': return None
    if what == 'delete': return r._replace(st='D') if C['deletekeeps'] else r._replace(st='D', req=None)
    if what == 'rotate': return None if r.rot else started(r, c, now, n)
    if what == 'cancel':
        if not r.rot or r.rot.phase != 'sweep': return None
        return r._replace(rot=r.rot._replace(phase='back', paused=0), act=r.rot.frm, at=-1)
    if what == 'pause': return r._replace(rot=r.rot._replace(paused=1)) if r.rot else None
    if what == 'resume': return r._replace(rot=r.rot._replace(paused=0)) if r.rot and r.rot.paused else None
    if what == 'retry': return again(r) if not r.rot and r.last and r.last[2] == 'F' else None
    if what == 'hold': return r._replace(paused=1)
    if what == 'unhold': return r._replace(paused=0)
    raise Exception(what)

@prog
def act(t, what): yield from action(t, what)

def action(t, what):
    yield ('lock', t, 'X')
    r, c, now = yield ('ghost', 'read', t)
    n = yield ('fresh',)
    new = changed(r, c, what, now, n)
    if new is not None and new != r:
        ok = yield from commit(t, new)
        if ok == 'ok' and new.rot: yield ('spawn', 'work ' + t, 'work', (t,))
        if ok == 'ok' and what == 'shred': yield from commit(t, None)
    yield ('unlock', t)

@prog
def anybody(t, n):
    """n actions, of anyone, of every kind"""
    while n:
        what = yield ('choose',)
        yield from action(t, what)
        n -= 1; what = None

@prog
def everyone(q, incl):
    """rotations all=true; after an error, or a crash, it is sent once more with its ID"""
    yield ('ghost', 'begun', q, incl, None)
    tries, ok = 2, 'err'
    while ok == 'err' and tries:
        tries -= 1
        if C['slock']: yield ('lock', 'S', 'X')
        c, now = yield ('ghost', 'settings')
        if not C['slock']: yield ('nop',)
        ok = 'ok'
        if q not in c.ids:
            n = max(c.seq + 1, now if C['ahead'] else 0)
            ids = tuple(sorted((c.ids if C['merged'] else ()) + ((q,) if C['ids'] else ())))
            ok = yield ('put', SET, Set(n, n if incl else c.incl if C['include'] else 0, ids, now, c.interval))
            if ok == 'ok':
                yield ('ghost', 'stored', q)
                yield ('nop',)   # the answer, which a crash may swallow
        c = n = ids = now = None
        yield ('unlock', 'S')
    if ok == 'ok': yield ('ghost', 'acked', q)

@prog
def named(q, incl, t):
    """rotations tenants=[t]"""
    yield ('ghost', 'begun', q, incl, t)
    tries, ok = 2, 'err'
    while ok == 'err' and tries:
        tries -= 1
        yield ('lock', t, 'X')
        r, c, now = yield ('ghost', 'read', t)
        if r is None or r.st != 'A': yield ('ghost', 'withdrawn', q); return
        ok = 'ok'
        if r.req is None or q not in r.req.ids:
            open = r.req is not None and not r.req.served
            ids = ((q,) if C['ids'] else ()) + (r.req.ids if r.req is not None and C['merged'] else ())
            new = r._replace(until=None, req=Req(r.nxt, int(bool(incl or open and r.req.incl and C['include'])), tuple(sorted(ids)), 0))
            ok = yield from commit(t, new)
            if ok == 'ok':
                yield ('ghost', 'stored', q)
                yield ('nop',)   # the answer, which a crash may swallow
        r = c = now = new = ids = open = None
        yield ('unlock', t)
    if ok == 'ok': yield ('ghost', 'acked', q)

@prog
def interval():
    if C['slock']: yield ('lock', 'S', 'X')
    c, now = yield ('ghost', 'settings')
    if not C['slock']: yield ('nop',)
    yield ('put', SET, c._replace(interval=1))

@prog
def endcampaign():
    """a round that finds nobody to rotate drops the campaign; with the rule it does nothing"""
    r, c, now = yield ('ghost', 'read', 'a')
    if not C['stays'] and c.seq and (r is None or r.st != 'A' or status(r, c, now) in (None, 'paused')):
        yield ('put', SET, c._replace(seq=0))

class Campaign(Model):
    recover = ('boot', ()); neverread = (); evict = True; jumps = 0; first = None; fails = 0
    def init(self, s):
        s.ghost['clock'] = 5; s.ghost['jumps'] = self.jumps; s.ghost['fails'] = self.fails
        s.store[SET] = Set(0, 0, (), 0, 0)
        if self.first is not None: s.store[('rec', 'a')] = Rec(1, 'A', 0, 1, 2, None, None, 0, None, None, 0)._replace(**self.first)
        r = s.store.get(('rec', 'a'))
        if r and r.rot and not r.rot.paused: s.thr['work a'] = tstart('work', ('a',)); self.runeager(s, 'work a')
        self.lived = set()
    def ghost(self, s, slot, op):
        what, g = op[1], s.ghost
        if what == 'read': return view(s, ('rec', op[2])), view(s, SET), g['clock']
        if what == 'settings': return view(s, SET), g['clock']
        if what == 'unfinished': return tuple(k[1] for k in sorted(s.store) if k[0] == 'rec' and s.store[k].rot and not s.store[k].rot.paused)
        if what == 'begun':
            q, incl, only = op[2:]
            if ('incl', q) in g: return   # sent again after a crash
            g['incl', q] = incl
            for k, r in s.store.items():
                if k[0] == 'rec' and r.st != 'S' and only in (None, k[1]): g['open', q, k[1]] = (r.inc, s.fresh, 0); g['cause', q, k[1]] = (r.inc, None, 0)
        if what == 'withdrawn':
            for k in [k for k in g if k[0] == 'open' and k[1] == op[2]]: del g[k]
        if what == 'acked': g['acked', op[2]] = s.fresh
        if what in ('acked', 'stored'):
            for k in [k for k in g if k[0] == 'cause' and k[1] == op[2] and g[k][1] is None]: g[k] = (g[k][0], s.fresh, 0)
        if what == 'starting':
            t = op[2]; r = view(s, ('rec', t))
            why = [k for k in g if k[0] == 'cause' and k[2] == t and not g[k][2]]
            if not why: raise Violation('%s is rotated, and nobody has asked for it: %s' % (t, r))
            if r.last and r.last[2] == 'F' and all(g[k][1] is not None and g[k][1] < r.last[4] for k in why): raise Violation('%s gets a new version instead of a retry: %s' % (t, r))
    def oneff(self, s, k, r):
        g = s.ghost
        if k[0] != 'rec': return
        for x in [x for x in g if x[0] in ('open', 'cause') and x[2] == k[1]]:
            inc, base, by = g[x]
            if r is None or r.inc != inc: del g[x]
            elif not by and base is not None and r.rot is None and r.last and r.last[2] == 'C' and r.last[4] > base: g[x] = (inc, base, r.last[4])
            elif by and (r.rot and r.rot.id == by or r.last and r.last[4] == by and r.last[2] != 'C'): g[x] = (inc, base, 0)   # a hidden end, undone
        if r and r.nxt == 2 and not r.rot:   # created beside a request
            for q in [x[1] for x in g if x[0] == 'incl' and g.get(('acked', x[1]), r.inc) >= r.inc]:
                if ('cause', q, k[1]) not in g: g['cause', q, k[1]] = (r.inc, g.get(('acked', q)), 0)
    def step(self, s, slot, errs=True):
        if mc._tab[s.thr[slot]][3][0] == 'sweep':
            n = s.copy(); yield slot + ': every page is on the new version', self.fin(n, slot, 'C')
            if errs and s.ghost['fails']:
                n = s.copy(); n.ghost['fails'] -= 1; yield slot + ': a page does not open', self.fin(n, slot, 'F')
        elif mc._tab[s.thr[slot]][3][0] == 'choose':
            for what in ACTIONS if errs else ():
                if not any(l[0] == 'a' for l in s.locks) and changed(view(s, ('rec', 'a')), view(s, SET), what, 0, 0) not in (None, view(s, ('rec', 'a'))):
                    n = s.copy(); yield '%s: %s' % (slot, what), self.fin(n, slot, what)
            n = s.copy(); yield slot + ': nothing', self.fin(n, slot, 'nothing')
        else: yield from super().step(s, slot, errs)
    def succ(self, s, errs=True, crash=True):
        yield from super().succ(s, errs, crash)
        c = s.ghost['clock']
        if s.ghost['jumps']:
            for to in {0, c + 1, 9} - {c}:
                n = s.copy(); n.ghost['clock'] = to; n.ghost['jumps'] -= 1; yield 'the clock goes from %d to %d' % (c, to), n
    def owed(self, s):
        for k, v in s.ghost.items():
            if k[0] == 'open' and not v[2] and ('acked', k[1]) in s.ghost: yield k[1], k[2], v[1]
    def check(self, s):
        for q, t, base in self.owed(s):
            r = view(s, ('rec', t))
            if r is None or r.st == 'S': continue   # a shredding that shows before it is stored
            why = status(r, view(s, SET), s.ghost['clock'])
            if why is None: raise Violation('%s is owed a rotation, and status does not name it: %s, %s' % (t, r, view(s, SET)))
            if why == 'waits' and (r.last is None or r.last[4] <= base): raise Violation('%s waits, and nothing was tried: %s' % (t, r))
            if why == 'paused' and s.ghost['incl', q]: raise Violation('%s is passed over, and include_paused was asked for: %s' % (t, r))
        if s.thr: return
        key = (frozenset(s.store.items()), s.ghost['clock'], frozenset(x for x in s.ghost.items() if x[0][0] in ('open', 'acked', 'cause')))
        if key not in self.lived: self.lived.add(key); self.live(s)
    def live(self, s):
        """days pass without a fault"""
        n = s.copy(); n.ov = {}; n.pend = (); steps = 0
        for i in range(6):
            for k in list(n.store):
                if k[0] != 'rec': continue
                n.thr['tick'] = tstart('tick', (k[1],)); self.runeager(n, 'tick')
                while n.thr:
                    steps += 1
                    for slot in sorted(n.thr):
                        x = next(self.step(n, slot, False), None)
                        if x: n = x[1]; break
                    else: raise Violation('deadlock')
                    if steps > 300: raise Violation('no rest')
            n.ghost['clock'] += BACK
        for q, t, base in self.owed(n):
            r = n.store.get(('rec', t))
            if r is None or r.st == 'S': continue
            why = status(r, n.store[SET], n.ghost['clock'])
            if why not in ('paused', 'rotation paused', 'deleting'): raise Violation('days later %s is owed a rotation still: %s: %s' % (t, why, r))

ACTIONS = 'rotate cancel retry pause resume hold unhold delete restore shred create'.split()
FAILED = dict(act=2, nxt=3, last=(2, 0, 'F', 1, 1))
RUNNING = dict(act=2, nxt=3, rot=Rot(2, 1, 0, 'sweep', 0, 1))
def run(name, clients, err=0, crash=0, tmax=300, quiet=True, first={}, jumps=0, fails=0, **rules):
    C.clear(); C.update(RULES); C.update(rules)
    mc._int.clear(); mc._tab.clear(); mc._nxt.clear()
    m = Campaign(); m.clients, m.err, m.crash, m.first, m.jumps, m.fails = clients, err, crash, first, jumps, fails
    return m.run(name, quiet=quiet, tmax=tmax)

ALL = lambda q='q', incl=0: ('everyone', (q, incl), (), True)
ONE = lambda q='q', incl=0: ('named', (q, incl, 'a'), (), True)
TICK = ('tick', ('a',), (), False)
A = lambda what, after=(): ('act', ('a', what), after, False)

if __name__ == '__main__':
    only = sys.argv[1:]
    def go(name, *a, **k):
        if not only or any(o in name for o in only): run(name, *a, quiet=not only, **k)
    X = lambda n: ('anybody', ('a', n), (), False)
    for what, Q in ('all', ALL), ('one', ONE):
        for state, first in ('', {}), (', failed before', FAILED), (', running', RUNNING), (', paused', dict(paused=1)), (', deleting', dict(st='D')):
            go('%s, %s actions%s' % (what, 'two' if state else 'three', state), {'q': Q(), 'x': X(2 if state else 3), 't': TICK}, first=first, fails=1)
            go('%s, an error%s' % (what, state), {'q': Q(), 'x': X(1 if 'running' in state or not state else 2), 't': TICK}, first=first, err=1)
            go('%s, a crash%s' % (what, state), {'q': Q(), 'x': X(1), 't': TICK}, first=first, err=1, crash=1)
            if 'running' not in state: go('%s, the clock%s' % (what, state), {'q': Q(), 'x': X(1), 't': TICK}, first=first, jumps=2, fails=1)
        go('%s, twice, a crash' % what, {'q': Q(), 'r': Q('r'), 't': TICK, 'u': TICK}, err=1, crash=1)
        go('%s, include_paused' % what, {'q': Q(incl=1), 'x': X(2), 't': TICK}, fails=1, err=1)
        for more, R in ('all', ALL), ('one', ONE):
            go('%s, %s, two requests' % (what, more), {'q': Q(incl=1), 'r': R('r'), 'x': X(1), 't': TICK}, fails=1)
    go('all, one, two requests, an error', {'q': ALL(), 'r': ONE('r'), 'x': X(1), 't': TICK}, err=1)
    go('all, settings', {'q': ALL(), 's': ('interval', (), (), False), 'e': ('endcampaign', (), (), False), 't': TICK, 'x': X(1)}, err=1)
    go('all, settings lost before', {'q': ALL(), 'x': X(1), 't': TICK}, first=dict(camp=3), err=1)
    go('all, created', {'q': ALL(), 'x': X(1), 't': TICK}, first=None, err=1)
    for rule, clients, kw in [
        ('number', {'q': ALL()}, dict(jumps=1, first=dict(at=5))),
        ('ahead', {'q': ALL()}, dict(first=dict(camp=3))),
        ('atstart', {'q': ALL(), 'x': A('rotate')}, {}),
        ('completion', {'q': ONE(), 'x': A('cancel'), 't': TICK}, {}),
        ('failed', {'q': ALL(), 't': TICK}, dict(fails=1)),
        ('retrykeeps', {'q': ONE(), 'x': A('retry')}, dict(first=FAILED)),
        ('below', {'q': ONE()}, dict(first=RUNNING)),
        ('deletekeeps', {'q': ONE(), 'x': A('delete'), 'y': A('restore')}, {}),
        ('restorekeeps', {'q': ONE(), 'x': A('delete'), 'y': A('restore')}, {}),
        ('stays', {'q': ALL(), 'e': ('endcampaign', (), (), False)}, dict(first=dict(paused=1))),
        ('include', {'q': ALL(incl=1), 'r': ALL('r')}, dict(first=dict(paused=1))),
        ('include, one', {'q': ONE(incl=1), 'r': ONE('r')}, dict(first=dict(paused=1), include=0)),
        ('ids', {'q': ONE(), 't': TICK, 'u': TICK}, dict(crash=1)),
        ('ids, all', {'q': ALL(), 't': TICK, 'u': TICK}, dict(crash=1, ids=0)),
        ('merged', {'q': ONE(), 'r': ONE('r'), 't': TICK, 'u': TICK}, dict(crash=1)),
        ('merged, all', {'q': ALL(), 'r': ALL('r'), 't': TICK, 'u': TICK}, dict(crash=1, merged=0)),
        ('created', {'q': ALL(), 'c': A('create', ('q',)), 't': TICK}, dict(first=None)),
        ('putoff', {'q': ALL(), 't': TICK, 'r': ALL('r')}, dict(fails=1)),
        ('bounded', {'q': ALL(), 't': TICK}, dict(fails=1, jumps=2)),
        ('retries', {'q': ALL(), 't': TICK}, dict(fails=1)),
        ('slock', {'q': ALL(), 's': ('interval', (), (), False)}, {}),
        ('cancelnames', {'q': ALL()}, dict(first=dict(paused=1))),
    ]:
        go('without ' + rule, clients, **{**({rule: 0} if rule in RULES else {}), **kw})
