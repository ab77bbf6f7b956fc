"""The partner's side of a log: what it saw last, and what of its own it looks for (SPEC 17.7).

Pure: a state and a log's static resources in, the next state and a cosignature out. Rules, in
order; the first that fails raises and the state stays:
1. The checkpoint is signed by both keys of the log that this witness began with.
2. It is not smaller and not earlier than the last one, and its tree begins with all of that one.
3. Every new entry is what the tree says, in the form of this version, and not before.
4. An entry about a call of ours is one that we wait for, under its id, once; a second one, or
   one that we did not make, is refused. Its commitments are to what we sent and received; if the
   answer is still on its way, they are kept until it is here.
5. A call that was answered longer than `patience` ago, by our clock, stands in the log.

Store the new state before handing out the cosignature: it says that no larger tree was seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from counterseal.crypto.digest import equal
from counterseal.errors import FormatError, LedgerBroken
from counterseal.ledger import entry as entries
from counterseal.ledger.entry import ID_BYTES, RecordId
from counterseal.ledger.keys import LogKeys
from counterseal.ledger.reader import TileReader, fetch_bounded
from counterseal.ledger.stored import check_goes_on
from counterseal.ledger.tiles import CHECKPOINT
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from counterseal.ledger.entry import Entry
    from counterseal.ledger.keys import Seen, WitnessSigner
    from counterseal.ledger.reader import Fetch
    from counterseal.trust.history import History

__all__ = ["Call", "Sight", "Witness"]

PATIENCE: Final = 3600  # seconds


class Call(Message, frozen=True):
    """A call of ours, by the id that we gave it.

    The commitments are ours once it is answered; the log's if it was `logged` before that.
    """

    id: RecordId
    time: int
    commit_in: Hex32 | None
    commit_out: Hex32 | None
    logged: bool

    @classmethod
    def made(cls, id: bytes, *, time: int) -> Call:  # noqa: A002 - the entry's field
        """Before the request leaves: the log may have it before we have the answer."""
        if len(id) != ID_BYTES:
            raise FormatError(f"the id of a call has {ID_BYTES} bytes")
        return cls(id=id.hex(), time=time, commit_in=None, commit_out=None, logged=False)

    def answered(self, key: bytes, *, input: bytes, output: bytes) -> Call:  # noqa: A002
        """With what was sent and received, under the record key that came with the answer."""
        return Call(
            id=self.id,
            time=self.time,
            commit_in=entries.commitment(key, "in", input),
            commit_out=entries.commitment(key, "out", output),
            logged=False,
        )


class _State(Message, frozen=True):
    kind: Literal["witness"]
    format: Literal[1]
    us: Hex32
    origin: str
    keys: tuple[str, str]
    checkpoint: bytes | None
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Sight:
    """What an update found. `cosignature`: lines to add to the checkpoint's note. `others`: calls
    of other programs, within sessions that we handed to them."""

    witness: Witness
    seen: Seen
    cosignature: bytes
    settled: tuple[str, ...]
    others: int


@dataclass(frozen=True, slots=True)
class Witness:
    """Of one log, for one identity (`us`). Make one with `begin`, later `restore`."""

    us: str
    keys: LogKeys
    last: Seen | None
    calls: Mapping[str, Call]

    @classmethod
    def begin(cls, statement: bytes, *, owner: History, us: str) -> Witness:
        """Watch a log whose keys `owner`, as pinned, states. From here on they stay the same."""
        return cls(us, LogKeys.verify(statement, of=owner), None, {})

    @classmethod
    def restore(cls, data: bytes) -> Witness:
        state = canonical.decode(
            data, _State, limit=limits.LEDGER_WITNESS_BYTES, what="state of a witness"
        )
        keys = LogKeys.parse(state.origin, state.keys)
        last = None if state.checkpoint is None else keys.open(state.checkpoint)
        return cls(state.us, keys, last, {call.id: call for call in state.calls})

    def encode(self) -> bytes:
        state = _State(
            kind="witness",
            format=1,
            us=self.us,
            origin=self.keys.origin,
            keys=self.keys.texts,
            checkpoint=None if self.last is None else self.last.note,
            calls=tuple(self.calls[id_] for id_ in sorted(self.calls)),
        )
        return canonical.encode(state)

    def restated(self, statement: bytes, *, owner: History) -> None:
        """Check a statement that the owner made again: other keys would be another log."""
        if LogKeys.verify(statement, of=owner) != self.keys:
            raise LedgerBroken(
                "rewritten: the owner states other keys for a ledger that we already watch",
                hint="what the old keys signed is evidence: keep the witness's state",
            )

    def expect(self, call: Call) -> Witness:
        """Wait for a call, or know more about one that we wait for.

        Raises LedgerBroken if the log has it already, with other payloads.
        """
        known = self.calls.get(call.id)
        if known is not None and known.logged:
            if call.commit_in is None:
                return self
            _compare(call, known.commit_in, known.commit_out, call.id)
            return replace(self, calls={k: v for k, v in self.calls.items() if k != call.id})
        if call.id not in self.calls and len(self.calls) >= limits.LEDGER_CALLS:
            raise LedgerBroken(
                f"{limits.LEDGER_CALLS} calls of ours are not in the ledger yet",
                hint="its owner publishes nothing, or hides it: talk to them",
            )
        return replace(self, calls={**self.calls, call.id: call})

    def update(
        self,
        fetch: Fetch,
        *,
        by: WitnessSigner,
        time: int,
        patience: int = PATIENCE,
        others: Collection[str] = (),
    ) -> Sight:
        """Look at the newest checkpoint by the rules above. `time`: seconds since 1970.

        `others`: sessions (as entries name them) that we handed to programs which remember
        nothing; their calls are counted, and cannot be compared.
        """
        seen = self.keys.open(fetch_bounded(fetch, CHECKPOINT))
        reader = TileReader(fetch, seen.checkpoint)
        start = 0
        if self.last is not None:
            start = self.last.checkpoint.size
            check_goes_on(reader, self.last.checkpoint)
            if seen.time < self.last.time:
                raise LedgerBroken("the newer checkpoint says that it was signed earlier")
        waiting = dict(self.calls)
        settled: list[str] = []
        counted = 0
        for first, found in reader.bundles(start, reader.size):
            for index, data in enumerate(found, first):
                entry = _entry(data, index)
                if entry.event == "call" and self.us in {entry.actor, entry.partner}:
                    if entry.id not in waiting and entry.session in others:
                        counted += 1
                        continue
                    _settle(waiting, entry, index)
                    settled.append(entry.id)
        _check_overdue(waiting, time - patience)
        after = replace(self, last=seen, calls=waiting)
        return Sight(after, seen, by.cosign(seen.checkpoint, time=time), tuple(settled), counted)


def _entry(data: bytes, index: int) -> Entry:
    try:
        return entries.decode(data)
    except FormatError as error:
        raise LedgerBroken(f"entry {index} cannot be read: {error.message}") from None


def _settle(waiting: dict[str, Call], entry: Entry, index: int) -> None:
    """Rule 4."""
    call = waiting.pop(entry.id, None)
    if call is None or call.logged:
        raise LedgerBroken(
            f"foreign entry: {index} is a call that we did not make, or stands there twice",
            hint="it counts against our quota: talk to the ledger's owner",
        )
    if call.commit_in is None:
        waiting[entry.id] = _logged(call, entry)
    else:
        _compare(call, entry.commit_in, entry.commit_out, str(index))


def _check_overdue(waiting: dict[str, Call], before: int) -> None:
    """Rule 5."""
    for call in [call for call in waiting.values() if call.time < before]:
        if not call.logged and call.commit_in is not None:
            raise LedgerBroken(
                f"missing entry: our call {call.id} is not in the ledger",
                hint="the answer to it shows that it was made: keep that",
            )
        del waiting[call.id]  # its answer never came: nothing to compare, perhaps no call at all


def _logged(call: Call, entry: Entry) -> Call:
    return Call(
        id=call.id,
        time=call.time,
        commit_in=entry.commit_in,
        commit_out=entry.commit_out,
        logged=True,
    )


def _compare(call: Call, commit_in: str | None, commit_out: str | None, where: str) -> None:
    for mine, theirs in ((call.commit_in, commit_in), (call.commit_out, commit_out)):
        if not equal(str(mine).encode(), str(theirs).encode()):
            raise LedgerBroken(
                f"altered entry: {where} is not about what we sent and received",
                hint="the answer and its record key show it: keep both",
            )
