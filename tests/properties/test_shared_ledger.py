"""However several writers of one log interleave, and wherever they die: one tree."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from ledgers import KEYS, SIGNER, Marks, new_store

from counterseal.ledger import tree
from counterseal.ledger.log import Log
from counterseal.ledger.reader import TileReader
from counterseal.ledger.store import MemoryStore
from counterseal.ledger.verify import verify

WRITERS = 3
writers = st.integers(0, WRITERS - 1)


class Killed(BaseException):
    """The process is gone."""


class Mortal(MemoryStore):
    """Dies before its commit, or after it."""

    dies: str | None = None

    def commit(self, **rows):
        if self.dies == "before":
            raise Killed
        super().commit(**rows)
        if self.dies == "after":
            raise Killed


class SharedLog(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.store, self.mark = new_store(), Marks()
        self.logs = [self.opened() for _ in range(WRITERS)]
        self.acknowledged = {}
        self.lost = set()  # of which nobody was told anything
        self.heads = {}
        self.number = 0

    def opened(self):
        return Log(Mortal(self.store._shared), SIGNER, self.mark, shared=True)

    def made(self, count):
        self.number += count
        return [b"%d" % number for number in range(self.number - count, self.number)]

    @rule(who=writers, count=st.integers(1, 400))
    def append(self, who, count):
        made = self.made(count)
        indexes = self.logs[who].append_all(made)
        self.acknowledged.update(zip(indexes, made, strict=True))

    @rule(who=writers)
    def submit(self, who):
        (made,) = self.made(1)

        def done(error, index):
            if error is None:
                assert index not in self.acknowledged
                self.acknowledged[index] = made
            else:
                self.lost.add(made)

        self.logs[who].submit(made, done)

    @rule(who=writers)
    def publish(self, who):
        made = KEYS.open(self.logs[who].publish(time=1)).checkpoint
        self.heads[made.size] = made

    @rule(who=writers, count=st.integers(1, 300), when=st.sampled_from(["before", "after"]))
    def die(self, who, count, when):
        """While it writes, or, with nothing that waits, while it publishes."""
        store = self.logs[who]._store
        store.dies = when
        waiting = [entry for batch in self.logs[who]._pending for entry in batch.entries]
        made = self.made(count)
        self.lost |= {*made, *waiting}
        try:
            self.logs[who].append_all(made)
        except Killed:
            pass
        else:
            raise AssertionError("it lives")
        self.again(who)

    @rule(who=writers, when=st.sampled_from(["before", "after"]))
    def die_publishing(self, who, when):
        self.logs[who].settle()
        self.logs[who]._store.dies = when
        try:
            self.logs[who].publish(time=1)
        except Killed:
            pass
        else:
            raise AssertionError("it lives")
        self.again(who)

    def again(self, who):
        self.logs[who]._store.close()  # what the system does for a process that is gone
        self.logs[who] = self.opened()

    @rule(who=writers)
    def reopen(self, who):
        self.logs[who].close()
        self.logs[who] = self.opened()

    @invariant()
    def nobody_keeps_the_lock(self):
        assert self.store._shared.writer is None

    def teardown(self):
        if not hasattr(self, "logs"):
            return
        for log in self.logs:
            log.settle()
        log = self.logs[0]
        seen = KEYS.open(log.publish(time=1))
        for head in self.heads.values():
            verify(log.read, KEYS, earlier=head, read=False)
        reader = TileReader(log.read, seen.checkpoint)
        found = [entry for _, some in reader.bundles(0, reader.size) for entry in some]
        assert len(set(found)) == len(found)
        assert {index: found[index] for index in self.acknowledged} == self.acknowledged
        assert set(found) - set(self.acknowledged.values()) <= self.lost
        assert seen.checkpoint.root == tree.root([tree.leaf_hash(entry) for entry in found])


SharedLog.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestSharedLog = SharedLog.TestCase
