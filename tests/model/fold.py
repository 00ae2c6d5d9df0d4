#!/usr/bin/env python3
"""Executable model of the state rules: what the retained entries of all logs mean.

Identity
  log    (agent, incarnation). One writer per log; an agent may have many logs, by incarnation.
  entry  (log, seq, base, stamp, ops), seq counting from 0. `base <= seq`, signed, never falls.
  tag    a few bits of the hash of an entry. Here 8 bits, so that wrong guesses are sometimes right.
  dot    (log, seq, index): the write at place `index` of entry `seq`. Its *origin* is the log.
  item   (key, value, stamp, tag): what a listing says of a dot; `tag` is that of the minting entry.

Operations of an entry of log L
  Set(key, value, names)  mints the dot (L, seq, index), ends L's earlier listings of the key, and
                          removes `names`: the dots of other origins that the writer saw there.
  Remove(key, names)      the same without minting.
  Carry(dot, item)        lists again a dot of L, or of a lower incarnation of the same agent.
  Drop(names)             repeats removals. A name is (dot, tag).
  Retire(log, n)          L answers for the dots of that lower incarnation with seq < n.
  Couple(key, sign, z)    L's agent has a contribution that decays to nothing at the instant z.

An operation is inert (whatever else its entry holds) when
  C1  Carry of an own dot with seq >= the carrying entry's seq;
  C2  Carry of a dot whose origin is another agent's log, or a higher incarnation;
  C3  Carry of an item with a stamp above that of the carrying entry;
  R1  Retire of a log that is not a lower incarnation of the same agent;
  Z1  Couple with z > stamp of its entry + LIMIT.
Each is decided by looking at that entry alone.

State: a pure function of the retained entries of the logs that are not void
  S1  Walk each agent's logs from the highest incarnation down. A log *counts*, with everything it
      retains, unless a log that counts has a retained Retire(it, n) with n >= its size: then it
      is *retired*, and nothing of it counts. (A tail beyond n brings all of it back, until
      somebody retires it further.)
  S2  Claims. A log that counts answers for its own dots with seq < its size, and for the dots of
      O with seq < n, n being the greatest of its retained Retire(O, n).
  S3  Listing of a log = its retained entries folded in order: Set adds its dot; Set and Remove of
      a key first take out every dot that this log lists for the key; Carry adds or replaces.
  S4  Named = every (dot, tag) in a Set, Remove or Drop that a counting log retains.
  S5  A dot is live iff at least one counting log answers for it, every counting log that answers
      for it lists it, all with the same item, and (dot, item.tag) is not named. A listing by a
      log that does not answer for the dot has no effect.
  S6  A coupling (agent, key, sign) has the greatest z that a counting log of that agent retains,
      as soon as there is one. It is alive while z is above the clock.
No rule compares arrival times, and none needs a tie-break.

Why S5. An honest writer that answers for a dot and does not list it knows that it was ended, and
that is for ever. So a writer restored from an old backup cannot bring back what a late-seen log
had ended, even when the removal itself is collected: the late-seen log answers for the dot and
does not list it.

Copies of logs
  A copy is the entries [base, size) and the prefix hash at its base. Two copies are comparable at
  m = min(sizes) when m >= both bases: unequal prefixes there are a fork, and the log is void,
  everywhere, with all it holds. Not comparable: the longer replaces the shorter (a jump), once
  the entry that raised the base is there. A size means entries that are held, so claims and
  retirement follow what is held.

What honest writers do
  W1  Raise the base to b: repeat, of the entries that go, the own listings of dots that are live
      in the writer's view, the names that are needed, the greatest Retire of each log, the
      greatest z of each coupling unless it is at or below the writer's clock.
  W2  A name (dot, tag) is needed while some counting log lists that dot with that tag, or no
      counting log in the view answers for the dot yet and its origin is not void.
  W3  Take over lower incarnations, once a peer was met: for each that counts and is held in a
      size above the own claim, Retire(it, its size), and its own Retire records repeated; Carry
      every dot that these claims cover and that is live in the view and not listed yet; repeat
      its names that are needed and its couplings still alive; name each dot that the own log
      lists and that is not live. Retire must come in the last entry if this takes several.
  W4  A writer whose log became void goes on in its next incarnation, and first writes again what
      the void copies that it holds (both branches) list and nobody named: for each key the dot of
      greatest (stamp, value), unless it is live through another log; the names of the void copies
      that are needed; their couplings still alive.

usage: fold.py RUNS [SEED] [--fork] [--hostile]
"""
import random
import sys
from collections import Counter, defaultdict
from typing import NamedTuple

LIMIT = 300          # how far beyond its entry's stamp a contribution may reach
TAG_BITS = 8
KEYS = 4
MASK = 2**64 - 1


class Log(NamedTuple):
    agent: int
    incarnation: int


class Dot(NamedTuple):
    log: Log
    seq: int
    index: int


class Item(NamedTuple):
    key: int
    value: int
    stamp: int
    tag: int


class Set(NamedTuple):
    key: int
    value: int
    names: tuple


class Remove(NamedTuple):
    key: int
    names: tuple


class Carry(NamedTuple):
    dot: Dot
    item: Item


class Drop(NamedTuple):
    names: tuple


class Retire(NamedTuple):
    log: Log
    n: int


class Couple(NamedTuple):
    key: int
    sign: int
    z: int


class Entry:
    """One entry, with what can be read from it alone: inert operations are already left out."""

    __slots__ = ("log", "seq", "base", "stamp", "ops", "link", "tag", "names", "retires", "couples",
                 "listings")

    def __init__(self, log, seq, base, stamp, ops, previous, nonce):
        self.log, self.seq, self.base, self.stamp, self.ops = log, seq, base, stamp, ops
        self.link = ((previous ^ nonce * 0x9E3779B97F4A7C15) * 0xD1342543DE82EF95 + 17) & MASK
        self.tag = self.link >> (64 - TAG_BITS)
        self.names = [n for op in ops if isinstance(op, (Set, Remove, Drop)) for n in op.names]
        self.retires = [op for op in ops if isinstance(op, Retire) and below(op.log, log)]
        self.couples = [((log.agent, op.key, op.sign), op.z) for op in ops
                        if isinstance(op, Couple) and op.z <= stamp + LIMIT]
        self.listings = list(self.read_listings())

    def read_listings(self):
        """The steps of S3, in order: (key, None, None) ends a key, (key, dot, item) lists."""
        for index, op in enumerate(self.ops):
            if isinstance(op, (Set, Remove)):
                yield op.key, None, None
            if isinstance(op, Set):
                yield (op.key, Dot(self.log, self.seq, index),
                       Item(op.key, op.value, self.stamp, self.tag))
            elif isinstance(op, Carry) and self.may_carry(op.dot, op.item):
                yield op.item.key, op.dot, op.item

    def may_carry(self, dot, item):
        """C1, C2, C3."""
        own = dot.log == self.log and dot.seq < self.seq
        return (own or below(dot.log, self.log)) and item.stamp <= self.stamp


def below(log, other):
    return log.agent == other.agent and log.incarnation < other.incarnation


class Copy:
    """One log as held: the entries [base, size) and the prefix hash at base."""

    def __init__(self, base=0, prefix=0):
        self.base, self.start, self.entries = base, prefix, []

    @property
    def size(self):
        return self.base + len(self.entries)

    def prefix(self, m):
        return self.start if m == self.base else self.entries[m - self.base - 1].link

    def from_seq(self, seq):
        return self.entries[seq - self.base:]

    def drop_to(self, base):
        """Forgets the entries below base and returns them."""
        if base <= self.base:
            return []
        gone = self.entries[:base - self.base]
        self.start = self.prefix(base)
        self.entries = self.entries[base - self.base:]
        self.base = base
        return gone

    def clone(self):
        other = Copy(self.base, self.start)
        other.entries = list(self.entries)
        return other


# The fold from scratch: the normative text, in code.

def listing(entries):
    """S3: what one log lists: {dot: item}."""
    out = {}
    for entry in entries:
        for key, dot, item in entry.listings:
            if dot is None:
                for old in [d for d, i in out.items() if i.key == key]:
                    del out[old]
            else:
                out[dot] = item
    return out


def count_and_claim(copies):
    """S1 and S2: the logs that count, and {origin: {log that answers: n}}."""
    counting, claims = [], defaultdict(dict)
    for log in sorted(copies, key=lambda x: -x.incarnation):
        copy = copies[log]
        if max(claims[log].values(), default=0) >= copy.size:
            continue
        counting.append(log)
        claims[log][log] = copy.size
        for entry in copy.entries:
            for op in entry.retires:
                claims[op.log][log] = max(op.n, claims[op.log].get(log, 0))
    return counting, claims


def fold(copies):
    """(live, couplings) of the retained entries of the logs that are not void."""
    counting, claims = count_and_claim(copies)
    listed, named, couplings = defaultdict(dict), set(), {}
    for log in counting:
        for dot, item in listing(copies[log].entries).items():
            listed[dot][log] = item
        for entry in copies[log].entries:
            named.update(entry.names)
            for name, z in entry.couples:
                couplings[name] = max(z, couplings.get(name, z))
    live = {}
    for dot, by in listed.items():
        said = {by.get(log) for log, n in claims[dot.log].items() if n > dot.seq}
        if len(said) == 1 and None not in said:
            item = said.pop()
            if (dot, item.tag) not in named:
                live[dot] = item
    return live, couplings


class Part:
    """What `Incremental` keeps of one log, whether it counts or not."""

    def __init__(self):
        self.size = 0
        self.counts = False
        self.entries = {}                    # seq -> entry, as retained
        self.listed = {}                     # dot -> (item, seq of the entry that listed it last)
        self.by_key = defaultdict(set)       # key -> dots listed
        self.retires = defaultdict(Counter)  # lower log -> {n: number of retained records}


class Incremental:
    """The same function, kept up to date. Inputs: `add`, `drop`, `remove`.

    Tables over the logs that count:
      listed  dot -> {log: item}          (ordered by dot: one origin's range is a scan)
      claims  origin -> {log: n}
      named   (dot, tag) -> count
      z       coupling -> {z: count}      (an ordered multiset: the greatest is read)
      live    dot -> item
    Every change of a table ends in `_refresh(dot)` for the dots it touches; `_refresh` is S5 and
    looks at the claims on one origin only: as many as the agent has incarnations that count.
    """

    def __init__(self, copies=()):
        self.parts, self.live = {}, {}
        self.listed, self.claims = defaultdict(dict), defaultdict(dict)
        self.named, self.z = Counter(), defaultdict(Counter)
        self.dots_of = defaultdict(dict)     # origin -> listed dots (else a range of `listed`)
        for log in copies:
            for entry in copies[log].entries:
                self.add(entry)

    def couplings(self):
        return {name: max(zs) for name, zs in self.z.items() if zs}

    # inputs

    def add(self, entry):
        """The next entry of a log (the first one held may have any seq)."""
        part = self.parts.setdefault(entry.log, Part())
        part.entries[entry.seq] = entry
        part.size = entry.seq + 1
        for key, dot, item in entry.listings:
            if dot is None:
                for old in list(part.by_key[key]):
                    self._unlist(entry.log, part, old)
            else:
                self._list(entry.log, part, dot, item, entry.seq)
        for op in entry.retires:
            part.retires[op.log][op.n] += 1
        if part.counts:
            self._tally(entry, 1)
            self._claim(entry.log, entry.log, part.size)
            self._claim_lower(entry, part)
        self._decide(entry.log)

    def drop(self, entry):
        """The lowest retained entry goes, because the base passed it."""
        part = self.parts[entry.log]
        del part.entries[entry.seq]
        for _, dot, _ in entry.listings:
            if dot in part.listed and part.listed[dot][1] == entry.seq:
                self._unlist(entry.log, part, dot)
        for op in entry.retires:
            decrement(part.retires[op.log], op.n)
        if part.counts:
            self._tally(entry, -1)
            self._claim_lower(entry, part)

    def remove(self, log):
        """A whole log goes: it is void, or a jump is about to add a later part of it."""
        part = self.parts.pop(log, None)
        if part and part.counts:
            self._switch(log, part, False)

    # one log

    def _list(self, log, part, dot, item, seq):
        if dot in part.listed:
            part.by_key[part.listed[dot][0].key].discard(dot)
        part.listed[dot] = (item, seq)
        part.by_key[item.key].add(dot)
        if part.counts:
            self._say(log, dot, item)

    def _unlist(self, log, part, dot):
        item, _ = part.listed.pop(dot)
        part.by_key[item.key].discard(dot)
        if part.counts:
            self._say(log, dot, None)

    def _claim_lower(self, entry, part):
        for target in {op.log for op in entry.retires}:
            self._claim(target, entry.log, max(part.retires[target], default=0))

    def _decide(self, log):
        """S1 for one log. Its claims can only switch lower incarnations, so this ends."""
        part = self.parts.get(log)
        if part is None:
            return
        retired = max((n for by, n in self.claims[log].items() if by != log), default=0)
        if part.counts != (retired < part.size):
            self._switch(log, part, not part.counts)

    def _switch(self, log, part, counts):
        """A log begins or ceases to count: all it has enters or leaves the tables."""
        part.counts = counts
        for dot, (item, _) in part.listed.items():
            self._say(log, dot, item if counts else None)
        for entry in part.entries.values():
            self._tally(entry, 1 if counts else -1)
        self._claim(log, log, part.size if counts else 0)
        for target, ns in part.retires.items():
            self._claim(target, log, max(ns, default=0) if counts else 0)

    # the tables

    def _say(self, log, dot, item):
        by = self.listed[dot]
        if item is None:
            del by[log]
        else:
            by[log] = item
        if by:
            self.dots_of[dot.log][dot] = None
        else:
            del self.listed[dot], self.dots_of[dot.log][dot]
        self._refresh(dot)

    def _tally(self, entry, sign):
        for name in entry.names:
            add_to(self.named, name, sign)
            self._refresh(name[0])
        for name, z in entry.couples:
            add_to(self.z[name], z, sign)

    def _claim(self, origin, log, n):
        claims, old = self.claims[origin], self.claims[origin].get(log, 0)
        if n == old:
            return
        if n:
            claims[log] = n
        else:
            del claims[log]
        low, high = min(n, old), max(n, old)
        for dot in [d for d in self.dots_of[origin] if low <= d.seq < high]:
            self._refresh(dot)
        if origin != log:
            self._decide(origin)

    def _refresh(self, dot):
        """S5 for one dot."""
        by = self.listed.get(dot, {})
        said = [by.get(log) for log, n in self.claims[dot.log].items() if n > dot.seq]
        item = said[0] if said else None
        if item is None or any(i != item for i in said) or (dot, item.tag) in self.named:
            self.live.pop(dot, None)
        else:
            self.live[dot] = item


def add_to(counter, key, sign):
    if sign > 0:
        counter[key] += 1
    else:
        decrement(counter, key)


def decrement(counter, key):
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


class Replica:
    """What one process holds. Its writer is (agent, incarnation)."""

    def __init__(self, agent, incarnation=0):
        self.agent, self.incarnation = agent, incarnation
        self.copies, self.staged, self.void = {}, {}, set()
        self.graves = defaultdict(list)      # void log -> its branches, kept for the owner
        self.rewritten = set()               # void logs that this writer wrote again
        self.met = True                      # has it met a peer since it was restored?
        self.state = Incremental()

    @property
    def log(self):
        return Log(self.agent, self.incarnation)

    def clone(self):
        other = Replica(self.agent, self.incarnation)
        other.copies = {log: c.clone() for log, c in self.copies.items()}
        other.staged = {log: c.clone() for log, c in self.staged.items()}
        other.void, other.rewritten = set(self.void), set(self.rewritten)
        other.met = self.met
        for log, copies in self.graves.items():
            other.graves[log] = list(copies)
        other.state = Incremental(other.copies)
        return other

    def append(self, entry):
        copy = self.copies.setdefault(entry.log, Copy())
        copy.entries.append(entry)
        self.state.add(entry)
        for gone in copy.drop_to(entry.base):
            self.state.drop(gone)

    def jump(self, log, copy):
        self.state.remove(log)
        self.copies[log] = copy
        for entry in copy.entries:
            self.state.add(entry)
        for gone in copy.drop_to(copy.entries[-1].base):
            self.state.drop(gone)

    def bury(self, log, others=()):
        """The log is void: its copies go to the grave, where the owner may find them."""
        self.void.add(log)
        self.staged.pop(log, None)
        self.state.remove(log)
        held = self.copies.pop(log, None)
        known = {c.prefix(c.size) for c in self.graves[log]}
        for copy in ([held] if held and held.size else []) + list(others):
            if copy.prefix(copy.size) not in known:
                known.add(copy.prefix(copy.size))
                self.graves[log].append(copy)

    def needed(self, name):
        """W2."""
        dot, tag = name
        if all(n <= dot.seq for n in self.state.claims[dot.log].values()):
            return dot.log not in self.void  # nobody who could list it has been seen yet
        return any(item.tag == tag for item in self.state.listed.get(dot, {}).values())


class World:
    def __init__(self, rng):
        self.rng, self.clock, self.nonce = rng, 0, 0
        self.history = defaultdict(list)     # log -> every entry ever written
        self.incarnations = defaultdict(int)
        self.hostile = set()                 # agents

    def next_incarnation(self, agent):
        self.incarnations[agent] += 1
        return self.incarnations[agent]


# Honest writers.

class Draft:
    """An entry in the making: its operations, and the writer's view as it will be."""

    def __init__(self, world, replica):
        self.world, self.replica, self.log = world, replica, replica.log
        self.copy = replica.copies.get(self.log) or Copy()
        self.seq, self.ops = self.copy.size, []
        self.view = dict(replica.state.live)
        part = replica.state.parts.get(self.log)
        self.own = dict(part.listed) if part else {}
        self.dropped, self.contributions = set(), {}

    def end(self, key):
        """Ends the key in the view; returns the dots of other origins, by name."""
        dots = [d for d, i in self.view.items() if i.key == key]
        names = sorted((d, self.view[d].tag) for d in dots if d.log != self.log)
        for dot in dots:
            del self.view[dot]
        return tuple(names)

    def set(self, key, value):
        self.ops.append(Set(key, value, self.end(key)))

    def remove(self, key):
        self.ops.append(Remove(key, self.end(key)))

    def name(self, names):
        """Names each dot once."""
        fresh = tuple(sorted(set(names) - self.dropped))
        if fresh:
            self.dropped.update(fresh)
            self.ops.append(Drop(fresh))

    def carry_couplings(self, entries):
        """The greatest z of each coupling in these entries, unless decayed."""
        for entry in entries:
            for (_, key, sign), z in entry.couples:
                if z > max(self.world.clock, self.contributions.get((key, sign), 0)):
                    self.contributions[key, sign] = z

    def strengthen(self, key, sign, by):
        zs = self.replica.state.z.get((self.log.agent, key, sign))
        z = max(max(zs, default=0) if zs else 0, self.world.clock) + by
        z = min(z, self.world.clock + LIMIT)
        self.contributions[key, sign] = max(z, self.contributions.get((key, sign), 0))

    def own_claims(self):
        """Of lower logs, by own retained records, though the own log be retired itself."""
        part = self.replica.state.parts.get(self.log)
        return {log: max(ns) for log, ns in part.retires.items() if ns} if part else {}

    def take_over(self):
        """W3."""
        state, mine = self.replica.state, self.own_claims()
        wanted, tails = {}, []
        for log, part in sorted(state.parts.items()):
            if not below(log, self.log) or not part.counts or part.size <= mine.get(log, 0):
                continue
            tails.append(part)
            wanted[log] = max(part.size, wanted.get(log, 0))
            for target, ns in part.retires.items():
                if ns:
                    wanted[target] = max(max(ns), wanted.get(target, 0))
        wanted = {log: n for log, n in wanted.items() if n > mine.get(log, 0)}
        if not tails:
            return
        for dot, item in sorted(self.view.items()):
            if dot.seq < wanted.get(dot.log, 0) and dot not in self.own:
                self.ops.append(Carry(dot, item))
        for part in tails:
            entries = part.entries.values()
            self.name(n for e in entries for n in e.names if self.replica.needed(n))
            self.carry_couplings(entries)
        self.name((d, i.tag) for d, (i, _) in self.own.items() if d not in state.live)
        self.ops.extend(Retire(log, n) for log, n in sorted(wanted.items()))

    def raise_base(self, base):
        """W1."""
        going = self.copy.entries[:base - self.copy.base]
        for dot, (item, seq) in sorted(self.own.items()):
            if seq < base and dot in self.view:
                self.ops.append(Carry(dot, item))
        self.name(n for e in going for n in e.names if self.replica.needed(n))
        repeated = {op.log for op in self.ops if isinstance(op, Retire)}
        mine = self.own_claims()
        for target in sorted({op.log for e in going for op in e.retires} - repeated):
            self.ops.append(Retire(target, mine[target]))
        self.carry_couplings(going)

    def rewrite_void(self, log):
        """W4."""
        replica, state = self.replica, self.replica.state
        graves = replica.graves[log]
        entries = [e for copy in graves for e in copy.entries]
        named = {n for e in entries for n in e.names}
        best = {}
        for copy in graves:
            for dot, item in listing(copy.entries).items():
                if (dot, item.tag) in named or (dot, item.tag) in state.named or dot in state.live:
                    continue
                best[item.key] = max(best.get(item.key, item), item,
                                     key=lambda i: (i.stamp, i.value))
        taken = {item.key for item, _ in self.own.values()}
        taken |= {op.key for op in self.ops if isinstance(op, (Set, Remove))}
        for key, item in sorted(best.items()):
            if key not in taken:
                self.ops.append(Set(key, item.value, ()))
        self.name(n for n in named if replica.needed(n))
        self.carry_couplings(entries)
        replica.rewritten.add(log)

    def finish(self, base):
        self.ops.extend(Couple(k, s, z) for (k, s), z in sorted(self.contributions.items()))
        if self.ops or base > self.copy.base:
            publish(self.world, self.replica, base, tuple(self.ops))


def publish(world, replica, base, ops):
    log, copy = replica.log, replica.copies.get(replica.log) or Copy()
    world.nonce += 1
    entry = Entry(log, copy.size, base, world.clock, ops, copy.prefix(copy.size), world.nonce)
    world.history[log].append(entry)
    replica.append(entry)


def write(world, replica):
    """One entry of an honest writer."""
    rng = world.rng
    world.clock += rng.randrange(1, 50)
    if replica.log in replica.void:
        replica.incarnation = world.next_incarnation(replica.agent)
    draft = Draft(world, replica)
    for log in sorted(replica.void - replica.rewritten):
        if log.agent == replica.agent:
            draft.rewrite_void(log)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        kind, key = rng.random(), rng.randrange(KEYS)
        if kind < 0.5:
            draft.set(key, world.nonce * 10 + len(draft.ops))
        elif kind < 0.75:
            draft.remove(key)
        else:
            draft.strengthen(rng.randrange(2), rng.choice([1, -1]), rng.randrange(1, 200))
    if replica.met and rng.random() < 0.3:
        draft.take_over()
    base = draft.copy.base
    if draft.seq and rng.random() < 0.5:
        base = rng.randrange(base, draft.seq + 1)
        draft.raise_base(base)
    draft.finish(base)


# Hostile writers: well-formed entries that lie.

def random_dot(world, unborn):
    rng, log = world.rng, world.rng.choice(sorted(world.history))
    born = len(world.history[log])
    seq = born + rng.randrange(4) if unborn else rng.randrange(born)
    return Dot(log, seq, rng.randrange(3))


def true_tag(world, dot):
    entries = world.history.get(dot.log, ())
    return entries[dot.seq].tag if dot.seq < len(entries) else world.rng.randrange(2**TAG_BITS)


def lie(world, replica, seq):
    rng, log = world.rng, replica.log
    any_log = rng.choice(sorted(world.history))
    family = [x for x in sorted(world.history) if x.agent == log.agent] or [any_log]
    kind = rng.randrange(10)
    dot = random_dot(world, unborn=rng.random() < 0.4)
    tag = true_tag(world, dot) if rng.random() < 0.7 else rng.randrange(2**TAG_BITS)
    live = sorted(replica.state.live.items())
    if kind == 0:
        return Drop(((dot, tag),))
    if kind == 1:
        return Set(rng.randrange(KEYS), world.nonce, ((dot, tag), (dot, tag)))
    if kind == 2 and live:
        dot, item = rng.choice(live)
        return Drop(((dot, item.tag),))
    if kind == 3 and live:                   # true or altered content, whoever's dot it is
        dot, item = rng.choice(live)
        change = rng.choice([{}, {"key": 0}, {"value": 1}, {"tag": 2}, {"stamp": 3},
                             {"stamp": world.clock + 99}])
        return Carry(dot, item._replace(**change))
    if kind == 4:
        return Carry(dot, Item(rng.randrange(KEYS), 5, rng.randrange(world.clock + 9), tag))
    if kind == 5:                            # an own dot, perhaps of an entry not written yet
        own = Dot(rng.choice(family), rng.randrange(seq + 3), rng.randrange(3))
        return Carry(own, Item(rng.randrange(KEYS), 6, world.clock, true_tag(world, own)))
    if kind == 6:
        return Retire(rng.choice(family), rng.randrange(seq + 9))
    if kind == 7:
        return Retire(Log(any_log.agent, any_log.incarnation + rng.randrange(-1, 2)),
                      rng.choice([1, 2, 5, 10**9]))
    if kind == 8:
        z = world.clock + rng.choice([9, LIMIT, 10**6])
        return Couple(rng.randrange(2), rng.choice([1, -1]), z)
    return Remove(rng.randrange(KEYS), ())


def write_lies(world, replica):
    """One entry of a hostile writer: an honest one, or lies and a base raised at will."""
    rng = world.rng
    if rng.random() < 0.4 or not world.history:
        return write(world, replica)
    world.clock += rng.randrange(1, 50)
    if replica.log in replica.void:
        replica.incarnation = world.next_incarnation(replica.agent)
    copy = replica.copies.get(replica.log) or Copy()
    ops = tuple(lie(world, replica, copy.size) for _ in range(rng.randrange(1, 5)))
    base = rng.randrange(copy.base, copy.size + 1) if rng.random() < 0.3 else copy.base
    publish(world, replica, base, ops)


# Exchange.

def sync(world, a, b, limit=None):
    """b learns from a; a limit stops the transfer part way. True if anything changed."""
    left, changed = limit if limit is not None else 10**9, False
    if limit is None and a.met:
        b.met = True
    for log in sorted(a.void):
        before = len(b.graves[log]), log in b.void
        b.bury(log, a.graves[log])
        changed |= before != (len(b.graves[log]), log in b.void)
    order = sorted(a.copies)
    world.rng.shuffle(order)
    for log in order:
        theirs, ours = a.copies[log], b.copies.get(log) or Copy()
        if log in b.void or log in a.void or not theirs.size:
            continue
        size, known = theirs.size, ours.size
        m = min(size, known)
        if m >= max(theirs.base, ours.base) and theirs.prefix(m) != ours.prefix(m):
            grave = [theirs.clone(), ours.clone()]
            a.bury(log, grave)
            b.bury(log, grave)
            changed = True
        elif size > known:
            near = known >= theirs.base
            sent = follow(b, log, theirs, ours, left) if near else stage(b, log, theirs, left)
            left -= sent
            changed |= sent > 0
    return changed


def follow(b, log, theirs, ours, left):
    entries = theirs.from_seq(ours.size)[:left]
    for entry in entries:
        b.append(entry)
    b.staged.pop(log, None)
    return len(entries)


def stage(b, log, theirs, left):
    """A jump: entries wait until the one that raised the base is there."""
    part = b.staged.get(log)
    if (part is None or part.base != theirs.base or part.size > theirs.size
            or part.prefix(part.size) != theirs.prefix(part.size)):
        part = b.staged[log] = Copy(theirs.base, theirs.start)
    entries = theirs.from_seq(part.size)[:left]
    part.entries.extend(entries)
    if part.entries and part.entries[-1].base >= part.base:
        del b.staged[log]
        b.jump(log, part)
    return len(entries)


# Checks.

class Failure(Exception):
    pass


def check(ok, *what):
    if not ok:
        raise Failure(*what)


def check_incremental(replica):
    live, couplings = fold(replica.copies)
    check(replica.state.live == live, "incremental live")
    check(replica.state.couplings() == couplings, "incremental couplings")


def check_tables(replica, rng):
    """The tables must not depend on the order in which logs came."""
    order = sorted(replica.copies)
    rng.shuffle(order)
    again, state = Incremental({log: replica.copies[log] for log in order}), replica.state

    def full(table):
        return {k: v for k, v in table.items() if v}
    for table in ("live", "listed", "claims", "named", "z", "dots_of"):
        check(full(getattr(again, table)) == full(getattr(state, table)), "table", table)


def check_equal(replicas):
    first = replicas[0]

    def held(replica):
        return {log: (c.base, c.size, c.prefix(c.size))
                for log, c in replica.copies.items() if c.size}
    for replica in replicas:
        check(replica.void == first.void, "void logs differ")
        check(held(replica) == held(first), "retained entries differ")
        check(replica.state.live == first.state.live, "live differs")
        check(replica.state.couplings() == first.state.couplings(), "couplings differ")


def naive(history, sizes=None, killers=lambda log: True):
    """Dots that nothing ended, over the full history, or over what is known of it at the end.

    Only the removals by logs that satisfy `killers` are taken."""
    listed, dead = {}, set()
    for log, entries in history.items():
        for entry in entries if sizes is None else entries[:sizes.get(log, 0)]:
            for index, op in enumerate(entry.ops):
                if isinstance(op, (Set, Remove)):
                    for dot in [d for d, i in listed.items() if d.log == log and i.key == op.key]:
                        del listed[dot]
                if isinstance(op, Set):
                    dot = Dot(log, entry.seq, index)
                    listed[dot] = Item(op.key, op.value, entry.stamp, entry.tag)
            if killers(log):
                dead.update(entry.names)
    return {dot: item for dot, item in listed.items() if (dot, item.tag) not in dead}


def ended_out_of_sight(world, sizes, dot):
    """Did entries that nobody knows any more say that the dot ended? Then nobody can know."""
    for log, entries in world.history.items():
        if log.agent != dot.log.agent or len(entries) <= sizes.get(log, 0):
            continue
        for n in range(sizes.get(log, 0) + 1, len(entries) + 1):
            kept = [e for e in entries[:n] if e.seq >= entries[n - 1].base]
            answers = log == dot.log and n > dot.seq or any(
                op.log == dot.log and op.n > dot.seq for e in kept for op in e.retires)
            if answers and dot not in listing(kept):
                return True
    return False


def check_history(world, replica, stats):
    """No log was forked: the state is that of the full history, hostile agents' own dots aside."""
    sizes = {log: c.size for log, c in replica.copies.items()}
    honest = {d: i for d, i in replica.state.live.items() if d.log.agent not in world.hostile}
    for dot, item in naive(world.history).items():
        if dot.log.agent not in world.hostile and dot.seq < sizes.get(dot.log, 0):
            check(honest.get(dot) == item, "lost", dot)
    known = naive(world.history, sizes, lambda log: log.agent not in world.hostile)
    for dot, item in honest.items():
        if known.get(dot) == item:
            continue
        check(ended_out_of_sight(world, sizes, dot), "extra", dot)
        stats["extra, evidence gone"] += 1
    alive = {k: z for k, z in replica.state.couplings().items()
             if z > world.clock and k[0] not in world.hostile}
    want = defaultdict(int)
    for log, entries in world.history.items():
        for entry in entries[:sizes.get(log, 0)]:
            for name, z in entry.couples:
                if z > world.clock and log.agent not in world.hostile:
                    want[name] = max(z, want[name])
    check(alive == want, "couplings of the full history")


# Histories.

def restart(world, replicas, silent, saved):
    """Without storage, from an old copy, or from the present one: the next incarnation."""
    rng, place = world.rng, world.rng.randrange(len(replicas))
    old = replicas[place]
    source = rng.choice([old, Replica(old.agent), saved.get(old.agent, old)])
    new = source.clone()
    new.incarnation = world.next_incarnation(old.agent)
    new.met = False
    replicas[place] = new
    if rng.random() < 0.6:
        silent.append(old)                   # may still be heard of, and may even go on writing


def run(seed, forks, hostile, stats):
    """Rounds of random steps. After each round everybody meets everybody, and all is checked."""
    rng = random.Random(seed)
    world, silent, saved, clones = World(rng), [], {}, [2 if forks else 0]
    replicas = [Replica(agent) for agent in range(rng.randrange(2, 6))]
    if hostile:
        world.hostile = set(rng.sample(range(len(replicas)), rng.choice([1, 1, 2])))
    restarts = rng.choice([0.04, 0.04, 0.15])
    for _ in range(rng.choice([1, 1, 2, 4])):
        for _ in range(rng.randrange(5, 50)):
            changed = exchange(world, replicas, silent)
            upset(world, replicas, silent, saved, clones, restarts)
            for replica in changed:
                check_incremental(replica)
                stats["steps"] += 1
        everyone = replicas + silent
        settle(world, everyone)
        check_equal(everyone)
        for replica in everyone:
            check_incremental(replica)
        check_tables(everyone[-1], rng)
        if not forks:
            check_history(world, everyone[0], stats)
    state = everyone[0].state
    stats["with void logs"] += bool(everyone[0].void)
    stats["with retired logs"] += any(not p.counts for p in state.parts.values())
    stats["live dots"] += len(state.live)


def step(world, replica):
    (write_lies if replica.agent in world.hostile else write)(world, replica)


def exchange(world, replicas, silent):
    """Somebody writes, or two meet; one that was replaced may be heard of. Returns who changed."""
    rng = world.rng
    changed = [rng.choice(replicas)]
    if rng.random() < 0.5:
        step(world, changed[0])
    else:
        other = rng.choice(replicas)
        if other is not changed[0]:
            sync(world, changed[0], other, rng.choice([None, None, 1, 3]))
            changed.append(other)
    if silent and rng.random() < 0.2:
        a, b = rng.choice(silent), rng.choice(replicas)
        if rng.random() < 0.2:
            step(world, a)
        sync(world, a, b, rng.choice([None, 2]))
        changed += [a, b]
    return changed


def upset(world, replicas, silent, saved, clones, restarts):
    """Somebody joins, is cloned, restarts or is saved."""
    rng = world.rng
    if rng.random() < 0.03:
        replicas.append(Replica(100 + len(replicas)))
    if clones[0] and rng.random() < 0.05:
        replicas.append(rng.choice(replicas).clone())
        clones[0] -= 1
    if rng.random() < restarts:
        restart(world, replicas, silent, saved)
    if rng.random() < 0.1:
        keep = rng.choice(replicas)
        saved[keep.agent] = keep.clone()


def settle(world, replicas):
    """Everybody meets one hub, until nothing changes any more."""
    hub, changed, rounds = world.rng.choice(replicas), True, 0
    while changed:
        changed, rounds = False, rounds + 1
        check(rounds < 20, "does not settle")
        for replica in replicas:
            if replica is not hub:
                changed |= sync(world, replica, hub)
        for replica in replicas:
            if replica is not hub:
                changed |= sync(world, hub, replica)


# The histories that shaped the rules, as told in their names.

def draft(world, replica, *steps, base=None):
    """One entry: `steps` are (method of Draft, arguments...)."""
    world.clock += 10
    entry = Draft(world, replica)
    for name, *args in steps:
        getattr(entry, name)(*args)
    if base is not None:
        entry.raise_base(base)
    entry.finish(entry.copy.base if base is None else base)


def restored(world, copy):
    new = copy.clone()
    new.incarnation = world.next_incarnation(copy.agent)
    return new


def expect(world, replicas, values):
    settle(world, replicas)
    check_equal(replicas)
    for replica in replicas:
        check_incremental(replica)
    check(sorted(i.value for i in replicas[0].state.live.values()) == values, "scenario", values)


def what_a_late_tail_ended_stays_dead_when_the_tail_is_retired():
    world, a = World(random.Random(1)), Replica(0)
    draft(world, a, ("set", 1, 11))
    b = restored(world, a)
    draft(world, a, ("set", 1, 12))          # ends 11 silently
    draft(world, b, ("take_over",))          # lists 11
    sync(world, a, b)
    draft(world, b, ("take_over",))          # retires the log that denied 11
    expect(world, [a, b], [12])


def an_old_backup_cannot_list_again_what_was_removed_and_collected(chained):
    world, a, x = World(random.Random(1)), Replica(0), Replica(1)
    draft(world, a, ("set", 1, 11))
    backup = a.clone()
    if chained:                              # the backup does not know the log that ends the dot
        a = restored(world, a)
        draft(world, a, ("take_over",))
    sync(world, a, x)
    draft(world, x, ("remove", 1))
    sync(world, x, a)
    draft(world, a, ("set", 2, 12))
    draft(world, a, base=1)                  # not carried
    sync(world, a, x)
    draft(world, x, ("set", 3, 13))
    draft(world, x, base=1)                  # collected
    check(not x.state.named, "scenario: the removal should be gone")
    b = restored(world, backup)
    draft(world, b, ("take_over",))
    expect(world, [a, x, b], [12, 13])


def scenarios():
    what_a_late_tail_ended_stays_dead_when_the_tail_is_retired()
    an_old_backup_cannot_list_again_what_was_removed_and_collected(False)
    an_old_backup_cannot_list_again_what_was_removed_and_collected(True)


def main(args):
    flags = {"--fork", "--hostile"} & set(args)
    numbers = [int(a) for a in args if a not in flags]
    runs, first = numbers[0], numbers[1] if len(numbers) > 1 else 0
    stats, failed = Counter(), 0
    scenarios()
    for seed in range(first, first + runs):
        try:
            run(seed, "--fork" in flags, "--hostile" in flags, stats)
        except Failure as failure:
            failed += 1
            if failed <= 5:
                print("FAIL seed", seed, *failure.args)
    print("runs", runs, "failed", failed, dict(stats))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
