"""The stack machine of pickle, without its effects.

It keeps only the *kinds* of the values on the stack: enough to say which names a pickle
would import, also when they are put together at run time (STACK_GLOBAL, the memo), and
whether it calls them. Lengths are skipped, never allocated; nothing is ever imported.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from counterseal.errors import UnsafeFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["UNKNOWN", "Broken", "Step", "Undecided", "steps"]

MAX_PROTOCOL: Final = 5
MAX_STEPS: Final = 10_000_000
MAX_LINE_BYTES: Final = 1 << 20
MAX_NAME_BYTES: Final = 1 << 10  # longer strings are no names: skipped, their text unknown

UNKNOWN: Final = object()
_MARK: Final = object()
_TUPLE: Final = object()
_GLOBAL: Final = object()
_OTHER: Final = object()

_OPCODES: Final[dict[bytes, Any]] = {
    opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes
}
_LENGTH_BYTES: Final = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_IMPORTS: Final = frozenset({"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"})
_CALLS: Final = frozenset({"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"})
_PUTS: Final = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS: Final = frozenset({"GET", "BINGET", "LONG_BINGET"})
_TUPLES: Final = frozenset({"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"})
_TEXTS: Final = frozenset(
    {
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
    }
)


class Broken(Exception):  # noqa: N818 - an event of the machine, caught in this package
    """The machine stops: whoever unpickles this gets an error at this point."""


class Undecided(Broken):
    """Not broken for certain: we stop looking, a real machine might go on."""


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction. `imports` is "module.name" or UNKNOWN; None if nothing is imported."""

    name: str
    imports: object = None
    calls: bool = False


def steps(stream: BinaryIO, size: int | None) -> Iterator[Step]:
    """Walk one pickle up to its STOP, or raise Broken where a real machine would fail.

    May also raise Broken a little later than the real machine would, never earlier. A size
    of None says that the stream is only the beginning of something longer.
    """
    machine = _Machine(stream, size)
    for _ in range(MAX_STEPS):
        step = machine.step()
        yield step
        if step.name == "STOP":
            return
    raise UnsafeFormat(f"a pickle of more than {MAX_STEPS} instructions")


class _Machine:
    def __init__(self, stream: BinaryIO, size: int | None) -> None:
        self._stream = stream
        self._size = size
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def step(self) -> Step:
        code = self._stream.read(1)
        opcode = _OPCODES.get(code)
        if not code:
            raise self._past_end()
        if opcode is None:
            raise Broken(f"no instruction {code!r}")
        name: str = opcode.name
        argument = self._argument(opcode.arg)
        if name == "PROTO" and (argument or b"\xff")[0] > MAX_PROTOCOL:
            raise Broken("no such protocol")
        if name in _PUTS or name == "MEMOIZE":
            self._memo[_index(name, argument) if name in _PUTS else len(self._memo)] = self._top()
            return Step(name)
        if name in _GETS:
            self._stack.append(self._memo.get(_index(name, argument), UNKNOWN))
            return Step(name)
        if name == "DUP":
            self._stack.append(self._top())
            return Step(name)
        popped = self._pop(opcode)
        self._push(opcode, argument)
        return self._describe(name, argument, popped)

    def _describe(self, name: str, argument: bytes | None, popped: list[object]) -> Step:
        calls = name in _CALLS
        if name == "REDUCE":  # with anything but a tuple the real machine refuses to call
            calls = popped[1] in {_TUPLE, UNKNOWN}
        if name not in _IMPORTS:
            return Step(name, None, calls)
        if name in {"GLOBAL", "INST"}:
            reference = (argument or b"").decode("utf-8", "replace").split("\n")
        elif name == "STACK_GLOBAL" and all(isinstance(part, str) for part in popped):
            reference = [str(part) for part in popped]
        else:
            return Step(name, UNKNOWN, calls)
        return Step(name, ".".join(reference), calls)

    def _pop(self, opcode: Any) -> list[object]:
        before = opcode.stack_before
        if opcode.name == "POP" and self._stack and self._stack[-1] is _MARK:
            return [self._stack.pop()]
        if pickletools.markobject in before:
            while self._top(marks=True) is not _MARK:
                self._stack.pop()
            self._stack.pop()
            before = before[: before.index(pickletools.markobject)]
        popped = [self._top_popped() for _ in before]
        return popped[::-1]

    def _push(self, opcode: Any, argument: bytes | None) -> None:
        for kind in opcode.stack_after:
            value: object
            if kind is pickletools.markobject:
                value = _MARK
            elif opcode.name in _TEXTS:
                value = UNKNOWN if argument is None else _text(opcode.name, argument)
            elif opcode.name in _TUPLES:
                value = _TUPLE
            elif opcode.name in {"GLOBAL", "STACK_GLOBAL"}:
                value = _GLOBAL
            else:
                value = UNKNOWN if kind is pickletools.anyobject else _OTHER
            self._stack.append(value)

    def _top(self, *, marks: bool = False) -> object:
        if not self._stack or (self._stack[-1] is _MARK and not marks):
            raise Broken("the stack is empty")
        return self._stack[-1]

    def _top_popped(self) -> object:
        self._top()
        return self._stack.pop()

    def _argument(self, kind: Any) -> bytes | None:
        """The raw argument; None if it is too long to be a name and was skipped."""
        if kind is None:
            return b""
        if kind.n == pickletools.UP_TO_NEWLINE:
            count = 2 if kind.name == "stringnl_noescape_pair" else 1
            return b"\n".join(self._line() for _ in range(count))
        length = kind.n
        if length < 0:
            length = int.from_bytes(self._exactly(_LENGTH_BYTES[kind.n]), "little")
            if length > MAX_NAME_BYTES:
                if self._size is None or self._stream.tell() + length > self._size:
                    raise self._past_end()
                self._stream.seek(length, 1)
                return None
        return self._exactly(length)

    def _line(self) -> bytes:
        line = self._stream.readline(MAX_LINE_BYTES)
        if line.endswith(b"\n"):
            return line[:-1]
        raise Undecided("a long line") if len(line) == MAX_LINE_BYTES else self._past_end()

    def _exactly(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) != count:
            raise self._past_end()
        return data

    def _past_end(self) -> Broken:
        return (Undecided if self._size is None else Broken)("it goes past the end")


def _index(name: str, argument: bytes | None) -> int:
    data = argument or b""
    if name not in {"PUT", "GET"}:
        return int.from_bytes(data, "little")
    if not data.isdigit() or len(data) > 10:
        raise Broken(f"no memo index: {data[:20]!r}")
    return int(data)


def _text(name: str, data: bytes) -> object:
    # A text with escapes may spell a name that is not to be seen here: it is then UNKNOWN.
    if name in {"STRING", "UNICODE"} and b"\\" in data:
        return UNKNOWN
    if name == "STRING":
        data = data.strip()[1:-1]
    try:
        return data.decode()
    except UnicodeDecodeError:
        return UNKNOWN
