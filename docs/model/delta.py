# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
"""A model of something that is not built: a small entry, the delta, beside a page for its latest changes.

One page with one item, two entries. The page is (mark, key, value), the mark new with each Put of it; the delta is
(mark of the page it belongs to, key, value). What Vault's cache shows may stay behind after a Put that failed with
effect, until the entry is put with success or the cache drops it. Every order of writes, folding the delta into its
page, a rotation to key 1, failures, and deaths of the process is tried. It must hold that every view reads the
acknowledged value, or one whose write was begun since, and that nothing that counts is on a key that is gone.
"""
from collections import deque, namedtuple

WRITES, FAILURES, DEATHS = 4, 2, 2
RULES = {
    'bound': 'a delta counts only with the page that it names',
    'own': 'a delta is put only onto a page that this process has put with success',
    'forget': 'after a Put that failed, the process no longer takes the page for its own',
}
# page, delta: what storage has. seen_page, seen_delta: what Vault's cache shows. own: this process has put the page.
# phase: 0 before the rotation, 1 during it, 2 when the old key is gone. allowed: the values that may be read.
State = namedtuple('State', 'page delta seen_page seen_delta own phase writes allowed failures deaths mark')


def counts(rules, page, delta):
    """Whether the delta is the one of the page."""
    return delta is not None and (delta[0] == page[0] or 'bound' not in rules)


def value(rules, page, delta):
    return delta[2] if counts(rules, page, delta) else page[2]


def puts(s, entry, new):
    """Every way in which a Put may end: with success, without effect, with effect that the cache hides or shows."""
    there = {entry: new, 'seen_' + entry: new}
    yield 'ok', s._replace(**there)
    if s.failures < FAILURES:
        s = s._replace(failures=s.failures + 1)
        yield 'without effect', s
        yield 'hidden', s._replace(**{entry: new})
        yield 'with effect', s._replace(**there)


def put_page(rules, s, key, val):
    """Put the page with all its changes, which leaves its delta behind."""
    for how, n in puts(s._replace(mark=s.mark + 1), 'page', (s.mark, key, val)):
        own = how == 'ok' or s.own and 'forget' not in rules
        yield how, n._replace(own=own)


def put_delta(rules, s, key, val):
    for how, n in puts(s, 'delta', (s.seen_page[0], key, val)):
        yield how, n._replace(own=s.own and (how == 'ok' or 'forget' not in rules))


def steps(rules, s):
    yield 'the cache drops the page', s._replace(seen_page=s.page)
    yield 'the cache drops the delta', s._replace(seen_delta=s.delta)
    if s.deaths < DEATHS:
        yield 'the process dies', s._replace(own=False, deaths=s.deaths + 1)
    key = min(s.phase, 1)
    if s.writes < WRITES:
        val = s.writes + 1
        ways = [('page', put_page)]
        if s.own or 'own' not in rules:
            ways.append(('delta', put_delta))
        for entry, put in ways:
            for how, n in put(rules, s._replace(writes=val), key, val):
                allowed = frozenset([val]) if how == 'ok' else s.allowed | {val}
                yield 'write %d to the %s: %s' % (val, entry, how), n._replace(allowed=allowed)
    mine = counts(rules, s.seen_page, s.seen_delta)
    now = value(rules, s.seen_page, s.seen_delta)
    if mine and s.phase < 2:
        for how, n in put_page(rules, s, key, now):
            yield 'fold: ' + how, n
    if s.phase == 0:
        yield 'rotate', s._replace(phase=1)
    if s.phase == 1:
        if s.seen_page[1] == 1:  # then its delta is, too: it was put after the page
            yield 'the old key goes', s._replace(phase=2)
        else:
            for how, n in put_page(rules, s, 1, now):
                yield 'move: ' + how, n


def wrong(rules, s):
    for page in {s.page, s.seen_page}:
        for delta in {s.delta, s.seen_delta}:
            if value(rules, page, delta) not in s.allowed:
                return 'reads %d, allowed %s' % (value(rules, page, delta), sorted(s.allowed))
            if s.phase == 2 and (page[1] == 0 or counts(rules, page, delta) and delta[1] == 0):
                return 'what counts is on the key that is gone'
    return None


def renamed(s):
    """The state with its marks numbered from 0: which numbers they are makes no difference."""
    entries = (s.page, s.delta, s.seen_page, s.seen_delta)
    number = {mark: i for i, mark in enumerate(sorted({e[0] for e in entries if e}))}
    page, delta, seen_page, seen_delta = (e and (number[e[0]],) + e[1:] for e in entries)
    return s._replace(page=page, delta=delta, seen_page=seen_page, seen_delta=seen_delta, mark=len(number))


def search(name, rules):
    page = (0, 0, 0)
    start = State(page, None, page, None, False, 0, 0, frozenset([0]), 0, 0, 1)
    before, todo = {start: None}, deque([start])
    while todo:
        s = todo.popleft()
        fault = wrong(rules, s)
        if fault:
            path = []
            while before[s]:
                s, step = before[s]
                path.append(step)
            print('[%s] VIOLATION %s: %s' % (name, fault, '; '.join(reversed(path))))
            return
        for step, n in steps(rules, s):
            n = renamed(n)
            if n not in before:
                before[n] = (s, step)
                todo.append(n)
    print('[%s] HOLDS, %d states' % (name, len(before)))


if __name__ == '__main__':
    search('all rules', set(RULES))
    for rule, says in RULES.items():
        search('without: ' + says, set(RULES) - {rule})
