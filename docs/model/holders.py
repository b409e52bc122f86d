# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
"""A model of holders and of the end of external keys.

Time goes in steps. A client seals under a data key until its lease ends, and stores what it sealed by then. Two holders
store texts; the second may be named late. A scan begins, reads its place, and is reported, perhaps after a scan that
began later. A rotation can be cancelled. The tenant can be deleted and restored. A backup of the first place can be put
back while backups are kept. The engine can stop between saying that a key ends and deleting it.

A holder that gets something back of which the engine knows nothing, or is not named, uses it, reports it, or is named
within REACT steps in which the tenant is not being deleted: nobody can do more than wait for that. HOLDS means: nothing
else that is stored, or sealed and about to be stored, is ever taken to be gone; no text at all is of a version whose key
is gone; and no report is acknowledged that cannot be kept.

RULES are those of backend/internal/holders. `python3 holders.py` searches the protocol in each scenario, and then once
without each rule; `python3 holders.py without` does the latter alone and prints how a violation comes about.
"""
import sys
from collections import deque, namedtuple

LEASE, REACT, RETENTION, BACKUPS, VERSIONS = 2, 1, 2, 1, 3
RULES = dict(
    lease=1,       # a scan counts if it began a lease or more after the version was deactivated
    latest=1,      # for the last time: a cancel activates it again, and it is not gone then
    answered=1,    # the time of a scan is when it began, not when it is reported
    allholders=1,  # every holder must have reported
    lower=1,       # a report of a lower version takes it back
    order=1,       # that something is gone counts by the scan that began last
    late=1,        # a holder that is named late has reported nothing
    unfinished=1,  # no key of an unfinished rotation goes
    use=1,         # a use of a version that is gone begins its retention anew
    backups=1,     # the retention is longer by the time for which backups are kept
    still=1,       # while a tenant is being deleted its retention stands still
    ends=1,        # a Put says that a key ends before it is deleted; no report takes that back
)
C = dict(RULES)
TOLD = -1   # the holder has said what it stores, and relies on that
SCENARIOS = {   # what may happen beside rotations, scans, reports and uses; for how long; and how many versions there are
    'a client': ({'client'}, 4, 2), 'two holders': ({'second'}, 4, 2), 'a holder named late': ({'second', 'late'}, 4, 2),
    'two scans and a backup': ({'scans', 'backup'}, 5, 2), 'a backup': ({'backup'}, 6, 2), 'a deletion': ({'delete', 'backup'}, 6, 2),
    'a cancelled rotation': ({'cancel'}, 5, 3),
}
S = namedtuple('S', 't active prev rotating deact gone ends dead key sealed store named scans reports owed backup deleting did')

def tup(x, i, v): return x[:i] + (v,) + x[i + 1:]
def wait(): return RETENTION + (BACKUPS if C['backups'] else 0)

def settle(s):
    """what follows from the reports, in the Put that changes something"""
    gone = s.gone
    for v in range(1, VERSIONS + 1):
        if C['ends'] and v in s.ends: continue
        if s.deact[v] is None:
            if C['latest']: gone = tup(gone, v, None)
            continue
        each = [v < s.reports[h][0] and (not C['lease'] or s.reports[h][1] >= s.deact[v] + LEASE) for h in (0, 1) if s.named[h]]
        ok = bool(each) and (all(each) if C['allholders'] else any(each))
        if not ok: gone = tup(gone, v, None)
        elif gone[v] is None: gone = tup(gone, v, s.t + wait())
    return s._replace(gone=gone)

def lost(s):
    for v in s.dead:
        if any(v in held for held in s.store): return 'version %d is destroyed, and a holder stores a text of it' % v
        if any(v == sealed for sealed, _ in s.sealed): return 'version %d is destroyed, and a client stores a text of it next' % v
        if v == s.active: return 'the active version is destroyed'
    for v in range(1, VERSIONS + 1):
        if s.gone[v] is None: continue
        if any(v == sealed for sealed, _ in s.sealed): return 'version %d is taken to be gone, and a client stores a text of it next' % v
        for h in (0, 1):
            if v in s.store[h] and s.named[h] and not (h == 0 and 'back' in s.did):
                return 'version %d is taken to be gone, and a holder stores a text of it' % v

def wrong(s, h):
    """holder h stores something that is taken to be gone"""
    return any(s.gone[v] is not None for v in s.store[h])

def steps(s, may):
    may, horizon, most = may
    if s.t < horizon and all(until > s.t + 1 for _, until in s.sealed):
        owed = s.owed if s.deleting is not None else tuple((n + 1 if n != TOLD else n) if wrong(s, h) else 0 for h, n in enumerate(s.owed))
        if max(owed) <= REACT:
            n = s._replace(t=s.t + 1, owed=owed)
            yield 'time', n._replace(key=None) if n.key and n.key[1] <= n.t else n
    for text in s.sealed:
        yield 'store', s._replace(sealed=frozenset(), store=tup(s.store, 0, s.store[0] | {text[0]}))
    if s.key and not s.sealed: yield 'seal', s._replace(sealed=frozenset([s.key]))
    if s.backup and s.t <= s.backup[1] + BACKUPS and 'back' not in s.did:
        yield 'put back', s._replace(store=tup(s.store, 0, s.backup[0]), owed=tup(s.owed, 0, 0), did=s.did | {'back'})
    if s.deleting is not None:
        d = s.t - s.deleting
        yield 'restore', s._replace(deleting=None, gone=tuple(g + d if g is not None and C['still'] else g for g in s.gone))
        return
    if 'delete' in may and 'deleted' not in s.did: yield 'delete', s._replace(deleting=s.t, did=s.did | {'deleted'})
    if 'backup' in may and not s.backup and s.store[0]: yield 'back up', s._replace(backup=(s.store[0], s.t))
    if 'client' in may and not s.key and not s.sealed and len([d for d in s.did if d[:3] == 'key']) < 2:
        yield 'datakey', s._replace(key=(s.active, s.t + LEASE), did=s.did | {'key%d' % s.t})
    yield from rotations(s, may, most)
    for h in (0, 1): yield from holder(s, h, may)
    for v in range(1, VERSIONS + 1):   # the engine
        if v in s.dead or C['unfinished'] and s.rotating: continue
        if v not in s.ends and s.gone[v] is not None and s.gone[v] <= s.t: yield 'key %d ends' % v, s._replace(ends=s.ends | {v})
        if v in s.ends: yield 'destroy %d' % v, s._replace(dead=s.dead | {v})

def rotations(s, may, most):
    newest = max(s.active, s.prev)
    if not s.rotating and newest < most:
        yield 'rotate', settle(s._replace(active=newest + 1, prev=s.active, rotating=True, deact=tup(s.deact, s.active, s.t)))
    if s.rotating:
        yield 'completed', s._replace(rotating=False)
        if 'cancel' in may and 'cancel' not in s.did:
            yield 'cancel', settle(s._replace(active=s.prev, prev=s.active, rotating=False, did=s.did | {'cancel'},
                                              deact=tup(tup(s.deact, s.active, s.t), s.prev, None)))

def holder(s, h, may):
    old = {v for v in s.store[h] if v != s.active}
    if old and not old & (s.ends | s.dead):
        gone = s.gone
        for v in old:
            if gone[v] is not None and C['use']: gone = tup(gone, v, s.t + wait())
        yield 'rewrap', s._replace(store=tup(s.store, h, frozenset([s.active])), gone=gone)
        if wrong(s, h): yield 'open', s._replace(gone=gone, owed=tup(s.owed, h, 0))
    if not s.named[h]:
        if 'late' in may:
            n = s._replace(named=(True, True), owed=tup(s.owed, h, TOLD))
            yield 'name', settle(n if C['late'] else n._replace(reports=tup(n.reports, 1, n.reports[0])))
        return
    under = s.scans[h]
    if len(s.scans[0] + s.scans[1]) < (2 if 'scans' in may else 1): yield 'scan', s._replace(scans=tup(s.scans, h, under + ((s.t, None),)))
    for i, (began, found) in enumerate(under):
        if found is None:
            yield 'read', s._replace(scans=tup(s.scans, h, tup(under, i, (began, min(s.store[h] | {s.active})))))
            continue
        n = s._replace(scans=tup(s.scans, h, under[:i] + under[i + 1:]))
        if found > s.active or C['ends'] and found in s.ends: yield 'refused', n; continue
        if found in s.ends: yield 'report', 'a report that version %d is held is acknowledged while its key ends' % found; continue
        if s.store[h] and found <= min(s.store[h]) and wrong(s, h): n = n._replace(owed=tup(s.owed, h, TOLD))
        below, last = s.reports[h]
        at = began if C['answered'] else s.t
        if at > last or not C['order']:
            below, last = (found, at) if found >= below or C['lower'] else (below, last)
        elif C['lower']: below = min(below, found)
        yield 'report', settle(n._replace(reports=tup(s.reports, h, (below, last))))

def search(scenario):
    may = scenario[0]
    none = (None,) * (VERSIONS + 1)
    first = S(0, 1, 0, False, none, none, frozenset(), frozenset(), None, frozenset(),
              (frozenset([1]), frozenset([1]) if 'second' in may else frozenset()), (True, 'second' in may and 'late' not in may),
              ((), ()), ((0, -1), (0, -1)), (0, 0), None, None, frozenset())
    came, todo = {first: None}, deque([first])
    while todo:
        s = todo.popleft()
        for did, n in steps(s, scenario):
            why = n if isinstance(n, str) else lost(n)
            if why: return len(came), why, trace(came, s) + [did]
            if n not in came: came[n] = (s, did); todo.append(n)
    return len(came), None, None

def trace(came, s):
    path = []
    while came[s]: path.append('%s (t=%d)' % (came[s][1], s.t)); s = came[s][0]
    return path[::-1]

# where leaving out a rule shows
SHOWS = dict(lease='a client', latest='a cancelled rotation', answered='a client', allholders='two holders', lower='a backup',
             order='two scans and a backup', late='a holder named late', unfinished='a cancelled rotation', use='a backup', backups='a backup',
             still='a deletion', ends='two scans and a backup')

def main():
    total = 0
    for name, scenario in SCENARIOS.items():
        states, why, path = search(scenario)
        total += states
        print('%-28s %8d states  %s' % (name, states, 'VIOLATION: %s' % why if why else 'HOLDS'), flush=True)
        if why: print('   ' + ', '.join(path)); sys.exit(1)
    print('%d states' % total)
    without()

def without():
    for rule in RULES:
        C[rule] = 0
        states, why, path = search(SCENARIOS[SHOWS[rule]])
        print('%-28s %s' % ('without ' + rule, 'VIOLATION: ' + why if why else 'HOLDS'), flush=True)
        if len(sys.argv) > 1 and why: print('   ' + ', '.join(path))
        C[rule] = 1

if __name__ == '__main__': without() if 'without' in sys.argv else main()
