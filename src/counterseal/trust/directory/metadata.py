"""One TUF metadata file in its strict form, and python-tuf's judgement about it.

python-tuf reads liberally: unknown fields are kept, numbers may be of any type, JSON may say a
thing twice. Here a file is first read as a document of ours (`wire.canonical`: exactly these
fields, one encoding), and only then handed over. What TUF allows and we do not use is
refused: delegations, other hashes, other keys, other roles.

For the characters that can occur, RFC 8785 and TUF's own canonical JSON are the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from tuf.api.exceptions import LengthOrHashMismatchError, UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Snapshot, T, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from counterseal.crypto.signing import SigningSuite
from counterseal.errors import BadSignature, ExpiredKey, FormatError, TrustError
from counterseal.trust.directory.keys import SIGNATURE_BYTES
from counterseal.trust.directory.known import Version
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import Hex32, Message
from counterseal.wire.canonical import Timestamp as Time

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from tuf.api.metadata import MetaFile, Signed, TargetFile

    from counterseal.trust.directory.keys import HybridSigner

__all__ = ["SPEC_VERSION", "Names", "check_file", "check_signed", "check_time", "load", "make"]

SPEC_VERSION: Final = "1.0.31"
_KEYS: Final = limits.RECOVERY_KEYS + 1


class Names(Message, frozen=True):
    """Whose directory, and for whom: in every metadata file, so that none serves elsewhere."""

    identity: Hex32
    partner: Hex32

    def field(self) -> dict[str, Any]:
        """As TUF carries it: a signed field that it does not know."""
        return {"counterseal": msgspec.to_builtins(self)}


class _Signature(Message, frozen=True):
    keyid: Hex32
    sig: Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-f]{{{2 * SIGNATURE_BYTES}}}\Z")]


class _Signed(Message, frozen=True):
    counterseal: Names
    expires: Time
    spec_version: Literal["1.0.31"]
    version: Version


class _KeyValue(Message, frozen=True):
    classical: bytes
    pq: bytes


class _Key(Message, frozen=True):
    keytype: Literal["counterseal"]
    scheme: SigningSuite
    keyval: _KeyValue


class _Role(Message, frozen=True):
    keyids: Annotated[tuple[Hex32, ...], msgspec.Meta(min_length=1, max_length=_KEYS)]
    threshold: Annotated[int, msgspec.Meta(ge=1, le=_KEYS)]


class _Roles(Message, frozen=True):
    root: _Role
    snapshot: _Role
    targets: _Role
    timestamp: _Role


class _Hashes(Message, frozen=True):
    sha256: Hex32


_Length = Annotated[int, msgspec.Meta(ge=0, le=limits.DIRECTORY_BYTES)]


class _Meta(Message, frozen=True):
    hashes: _Hashes
    length: _Length
    version: Version


class _Target(Message, frozen=True):
    hashes: _Hashes
    length: _Length


class _SnapshotMeta(Message, frozen=True):
    meta: _Meta = msgspec.field(name="snapshot.json")


class _TargetsMeta(Message, frozen=True):
    meta: _Meta = msgspec.field(name="targets.json")


class _RootSigned(_Signed, frozen=True):
    type: Literal["root"] = msgspec.field(name="_type")
    consistent_snapshot: Literal[False]
    keys: Annotated[dict[Hex32, _Key], msgspec.Meta(max_length=2 * _KEYS)]
    roles: _Roles


class _TimestampSigned(_Signed, frozen=True):
    type: Literal["timestamp"] = msgspec.field(name="_type")
    meta: _SnapshotMeta


class _SnapshotSigned(_Signed, frozen=True):
    type: Literal["snapshot"] = msgspec.field(name="_type")
    meta: _TargetsMeta


class _TargetsSigned(_Signed, frozen=True):
    type: Literal["targets"] = msgspec.field(name="_type")
    targets: dict[Literal["card.json", "contact.json", "prekeys.json"], _Target]


S = TypeVar("S", bound=_Signed)


class _File(Message, Generic[S], frozen=True):
    signatures: Annotated[tuple[_Signature, ...], msgspec.Meta(min_length=1, max_length=2 * _KEYS)]
    signed: S


_FORMS: Final[dict[str, tuple[Any, int]]] = {
    Root.type: (_File[_RootSigned], limits.ROOT_BYTES),
    Timestamp.type: (_File[_TimestampSigned], limits.TIMESTAMP_BYTES),
    Snapshot.type: (_File[_SnapshotSigned], limits.SNAPSHOT_BYTES),
    Targets.type: (_File[_TargetsSigned], limits.TARGETS_BYTES),
}


def load(data: bytes, role: type[T], *, names: Names | None) -> Metadata[T]:
    """Read a metadata file that claims to be of this directory. Nothing in it is verified.

    `names` is None for a directory that is ours.
    """
    form, limit = _FORMS[role.type]
    file = canonical.decode(data, form, limit=limit, what=f"directory's {role.type}")
    if names is not None and file.signed.counterseal != names:
        raise TrustError(
            "this directory is not theirs, or was made for somebody else",
            hint="a directory serves one partner: ask for one made for you",
        )
    try:
        return Metadata[T].from_bytes(data)
    except DeserializationError as error:
        raise FormatError(f"the directory's {role.type} is not in the form of TUF") from error


def make(signed: T, *, by: Iterable[HybridSigner]) -> Metadata[T]:
    """A new metadata file with one signature of each signer."""
    file = Metadata(signed)
    for signer in by:  # not Metadata.sign, which would hide what a token says behind an error
        file.signatures[signer.public_key.keyid] = signer.sign(file.signed_bytes)
    return file


def check_signed(role: str, file: Metadata[T], *, by: Root) -> None:
    """Enough of the keys that `by` gives this role have signed. Other signatures count nothing."""
    try:
        by.verify_delegate(role, file.signed_bytes, file.signatures)
    except UnsignedMetadataError as error:
        raise BadSignature(
            f"the directory's {role} is not signed by enough of the right keys"
        ) from error


def check_file(data: bytes, info: MetaFile | TargetFile, *, name: str) -> None:
    """It is the file that was signed for."""
    try:
        info.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise BadSignature(f"{name} is not the one that the directory names") from error


def check_time(signed: Signed, *, at: datetime) -> None:
    if signed.is_expired(at):
        raise ExpiredKey(
            f"the directory's {signed.type} ended on {signed.expires:%Y-%m-%d %H:%M} UTC",
            hint="ask for a fresh one; if it does not come, somebody may be holding it back",
        )
