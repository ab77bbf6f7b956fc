"""Signed notes (c2sp.org/signed-note) and cosignatures (c2sp.org/tlog-cosignature).

    example.com/log
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — example.com/log Az3grlgtzPICa5OS...         key id (4 bytes), signature

Rules for opening, in order:
1. Not longer than the limits; UTF-8; no control character but newline; the text ends at the
   last empty line; after it one or more signature lines, each in its only spelling.
2. A line of an unknown (name, key id) says nothing. Every line of a known key must be good.
3. At least one line is of a known key. Whose signatures are needed is the caller's policy.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from counterseal.crypto import notes
from counterseal.errors import BadSignature, FormatError
from counterseal.ledger.checkpoint import Checkpoint, strict_base64
from counterseal.wire import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Kind", "NoteKey", "NoteSigner", "Opened", "Signature", "join", "open_note", "split"]

_ID_BYTES: Final = 4
_TIME_BYTES: Final = 8
_NAME_BYTES: Final = 255
_VKEY: Final = re.compile(r"([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")


class Kind(IntEnum):
    """What a key signs, and how."""

    ED25519 = 1  # the text
    ED25519_COSIGNATURE = 4  # a time and the text
    MLDSA44_COSIGNATURE = 6  # a time, its own name and the checkpoint


_PUBLIC_BYTES: Final = {
    Kind.ED25519: notes.ED25519_PUBLIC_BYTES,
    Kind.ED25519_COSIGNATURE: notes.ED25519_PUBLIC_BYTES,
    Kind.MLDSA44_COSIGNATURE: notes.MLDSA44_PUBLIC_BYTES,
}


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key under its name, as a *vkey* has it."""

    name: str
    kind: Kind
    public: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.public) != _PUBLIC_BYTES[self.kind]:
            raise FormatError("a key of a log has the wrong length")

    @property
    def id(self) -> bytes:
        named = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return sha256(named).digest()[:_ID_BYTES]

    @property
    def text(self) -> str:
        """The vkey, as other tools take it."""
        material = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.id.hex()}+{material}"

    @classmethod
    def parse(cls, text: str) -> NoteKey:
        match = _VKEY.fullmatch(text)
        if match is None:
            raise FormatError("this is not the key of a log (a vkey)")
        material = strict_base64(match[3], "key of a log")
        try:
            kind = Kind(material[0])
        except (ValueError, IndexError):
            raise FormatError("the key of a log is of an unknown kind") from None
        key = cls(match[1], kind, material[1:])
        if key.id.hex() != match[2]:
            raise FormatError("the key of a log does not have the key id that it says")
        return key

    def verify(self, signature: bytes, text: str) -> int | None:
        """Return the time of a good signature (None: it has none), or raise BadSignature."""
        if self.kind is Kind.ED25519:
            notes.verify_ed25519(self.public, signature, text.encode())
            return None
        time = int.from_bytes(signature[:_TIME_BYTES], "big")
        if len(signature) <= _TIME_BYTES or not 0 < time < 1 << 63:
            # Zero would be "at no time in particular": no witness of a checkpoint says that.
            raise BadSignature("a cosignature has no time")
        message = _message(self, text, time)
        check = (
            notes.verify_ed25519 if self.kind is Kind.ED25519_COSIGNATURE else notes.verify_mldsa44
        )
        check(self.public, signature[_TIME_BYTES:], message)
        return time


class NoteSigner:
    """A private key under its name. `time` is seconds since 1970; the plain kind ignores it."""

    __slots__ = ("_private", "key")

    def __init__(self, name: str, kind: Kind, seed: bytes) -> None:
        self._private: notes.Ed25519Key | notes.MlDsa44Key = (
            notes.MlDsa44Key(seed) if kind is Kind.MLDSA44_COSIGNATURE else notes.Ed25519Key(seed)
        )
        self.key = NoteKey(name, kind, self._private.public)

    def sign(self, text: str, *, time: int) -> Signature:
        if self.key.kind is Kind.ED25519:
            made = self._private.sign(text.encode())
        else:
            made = time.to_bytes(_TIME_BYTES, "big")
            made += self._private.sign(_message(self.key, text, time))
        return Signature(self.key.name, self.key.id, made)

    def __repr__(self) -> str:
        return f"<NoteSigner {self.key.name}>"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line, good or not."""

    name: str
    id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        return f"— {self.name} {base64.b64encode(self.id + self.signature).decode()}\n"

    @classmethod
    def parse(cls, line: str) -> Signature:
        """Read a line, without its newline."""
        dash, _, rest = line.partition(" ")
        name, space, text = rest.partition(" ")
        if dash != "—" or not space:
            raise FormatError("a signature line of a note is not in its form")
        check_name(name)
        data = strict_base64(text, "signature of a note")
        if len(data) <= _ID_BYTES:
            raise FormatError("a signature of a note is too short")
        return cls(name, data[:_ID_BYTES], data[_ID_BYTES:])


@dataclass(frozen=True, slots=True)
class Opened:
    """A text, and who signed it when (None: that kind has no time)."""

    text: str
    by: dict[NoteKey, int | None]


def join(text: str, signatures: Iterable[Signature]) -> bytes:
    return (text + "\n" + "".join(signature.line for signature in signatures)).encode()


def split(data: bytes) -> tuple[str, list[Signature]]:
    """Take a note apart by rule 1. Nothing in it is verified yet."""
    if len(data) > limits.LEDGER_NOTE_BYTES:
        raise FormatError(f"the note is longer than {limits.LEDGER_NOTE_BYTES} bytes")
    try:
        note = data.decode()
    except UnicodeDecodeError:
        raise FormatError("the note is not UTF-8") from None
    if _CONTROL.search(note):
        raise FormatError("the note has a control character")
    before, gap, lines = note.rpartition("\n\n")
    if not gap or not lines.endswith("\n"):
        raise FormatError("the note has no signatures")
    signatures = [Signature.parse(line) for line in lines[:-1].split("\n")]
    if len(signatures) > limits.LEDGER_SIGNATURES:
        raise FormatError(f"the note has more than {limits.LEDGER_SIGNATURES} signatures")
    return before + "\n", signatures


def open_note(data: bytes, *, known: Sequence[NoteKey]) -> Opened:
    """Read a note that at least one of the `known` keys has signed."""
    text, signatures = split(data)
    keys = {(key.name, key.id): key for key in known}
    by: dict[NoteKey, int | None] = {}
    for signature in signatures:
        key = keys.get((signature.name, signature.id))
        if key is not None:
            by[key] = key.verify(signature.signature, text)
    if not by:
        raise BadSignature("the note is not signed by any key that we know")
    return Opened(text, by)


def check_name(name: str) -> None:
    if (
        not name
        or "+" in name
        or len(name.encode()) > _NAME_BYTES
        or any(character.isspace() for character in name)
    ):
        raise FormatError("the name of a log's or witness's key is not in its form")


def _message(key: NoteKey, text: str, time: int) -> bytes:
    """What a cosignature signs."""
    if key.kind is Kind.ED25519_COSIGNATURE:
        return f"cosignature/v1\ntime {time}\n{text}".encode()
    checkpoint = Checkpoint.parse(text)
    name, origin = key.name.encode(), checkpoint.origin.encode()
    return b"".join(
        (
            b"subtree/v1\n\0",
            len(name).to_bytes(1, "big"),
            name,
            time.to_bytes(_TIME_BYTES, "big"),
            len(origin).to_bytes(1, "big"),
            origin,
            bytes(_TIME_BYTES),  # start: a checkpoint is the subtree from 0
            checkpoint.size.to_bytes(8, "big"),
            checkpoint.root,
        )
    )
