"""Whether to believe a directory: a pure state machine over what is remembered and what came.

Rules, in order (SPEC 2.8; numbers in brackets: TUF 1.0.31, section 5). The first that fails
raises, and nothing is learnt from the rest:

1.  `card.json` continues the pinned history. If its newest card is revoked, that is the news:
    the history is taken over, and nothing else is looked at. Otherwise it is in force.
2.  Every metadata file has the strict form, and names them as its owner and us as its reader.
3.  The root. If there is a known one: each root that follows, one number after the other, is
    signed by enough keys of the one before and of its own [5.3]. If there is none, the newest.
    A known root leads nowhere if a key between its card and the newest was revoked, or replaced
    by recovery keys: its thief could have made it. Then too the newest is taken, and nothing
    else remembered counts; but recovery keys that the known root asks for must have signed it.
4.  The root is anchored in the newest card: its root keys are the card's signing key, which has
    signed, and none but recovery keys of the card; targets are for that signing key alone;
    timestamp and snapshot for one other key. Enough of its own keys have signed it.
5.  Root, timestamp, snapshot and targets have not ended [5.3.10, 5.4.4, 5.5.6, 5.6.6].
6.  Timestamp [5.4], snapshot [5.5] and targets [5.6]: signed as the root says; length, digest and
    number as the file before says; no number is below the one remembered. After a change of
    the online key its own numbers start again [5.3.11]: a thief may have counted far ahead.
7.  The other files are those that the targets name, with their lengths and digests [5.7].
8.  The prekeys are signed for us (SPEC 2.7); the contact has its form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from counterseal.crypto.digest import sha256
from counterseal.errors import BadSignature, FormatError, RolledBack
from counterseal.trust import prekeys
from counterseal.trust.card import CardDocument
from counterseal.trust.directory import bundle as bundles
from counterseal.trust.directory.bundle import Contact
from counterseal.trust.directory.keys import keyid_of
from counterseal.trust.directory.known import Known
from counterseal.trust.directory.metadata import (
    Names,
    check_file,
    check_signed,
    check_time,
    load,
)
from counterseal.trust.history import History
from counterseal.wire import canonical, limits
from counterseal.wire.dsse import Envelope

if TYPE_CHECKING:
    from datetime import datetime

    from tuf.api.metadata import Metadata

    from counterseal.trust.card import Card
    from counterseal.trust.directory.bundle import DirectoryBundle

__all__ = ["Update", "check_restart", "handed_over", "update"]


@dataclass(frozen=True, slots=True)
class Update:
    """What a directory brought. `known` is to be remembered instead of what was known before."""

    history: History
    known: Known | None
    prekeys: Envelope | None
    contact: Contact | None


def update(
    bundle: DirectoryBundle, *, us: str, pinned: History, known: Known | None, at: datetime
) -> Update:
    """Believe a directory that `pinned` made for identity `us`, or raise by the rules above."""
    history = History.verify(CardDocument.parse(bundle.file(bundles.CARD)), pinned=pinned)
    if history.newest.revoked is not None:
        return Update(history, known, None, None)
    card = history.current(at=at)
    names = Names(identity=history.identity, partner=us)
    before = None if known is None else load(known.root, Root, names=names)
    if known is not None and not handed_over(history, since=known.card):
        known = None
    root = _root(bundle, names, before, follows=known is not None)
    _check_anchor(root, card.card)
    # Numbers given by the key that may only refresh count for as long as it is that key.
    same = before is not None and _online(before.signed) == _online(root.signed)
    marks = known if same else None
    timestamp = _timestamp(bundle, root.signed, names, marks)
    snapshot = _snapshot(bundle, root.signed, names, timestamp.signed, marks)
    targets = _targets(bundle, root.signed, names, snapshot, known)
    parts = (root.signed, timestamp.signed, snapshot, targets)
    for part in parts:
        check_time(part, at=at)
    _check_files(bundle, targets)
    envelope = _prekeys(bundle, history, us, at=at)
    return Update(
        history,
        Known(
            kind="known-directory",
            format=1,
            card=card.key_id,
            root=root.to_bytes(),
            timestamp=timestamp.signed.version,
            timestamp_digest=sha256(timestamp.signed_bytes).hex(),
            snapshot=snapshot.version,
            targets=targets.version,
            fresh_until=min(part.expires for part in parts),
        ),
        envelope,
        _contact(bundle),
    )


def handed_over(history: History, *, since: str) -> bool:
    """Whether each key from that card on signed its successor's card and is not revoked."""
    known = [dated.key_id for dated in history.cards]
    if since not in known:
        raise RolledBack(f'a directory of "{history.name}" was under a newer card than this')
    place = known.index(since)
    for dated, successor in zip(
        history.cards[place:], history.document.cards[place + 1 :], strict=False
    ):
        signed_by = {signature.keyid for signature in successor.signatures}
        if dated.revoked is not None or not signed_by.issuperset(dated.card.signing.key().key_ids):
            return False
    return True


def _root(
    bundle: DirectoryBundle, names: Names, before: Metadata[Root] | None, *, follows: bool
) -> Metadata[Root]:
    """Rule 3."""
    offered = bundle.roots()
    newest = max(offered, default=0)
    if before is None:
        return _own_root(offered, newest, names)
    if not follows:
        root = _own_root(offered, newest, names)
        check_restart(root, after=before.signed)
        return root
    for version in range(before.signed.version + 1, newest + 1):
        root = _own_root(offered, version, names)
        check_signed(Root.type, root, by=before.signed)
        before = root
    return before


def check_restart(root: Metadata[Root], *, after: Root) -> None:
    """Where the old signing key has no say any more, the recovery keys still have theirs.

    Else the thief of a signing key could shake off a threshold: make a card of its own, revoke
    the stolen one, and start again with a root that asks for nobody else.
    """
    found = after.get_verification_result(Root.type, root.signed_bytes, root.signatures)
    recovery = set(found.signed) - set(after.roles[Targets.type].keyids)
    if len(recovery) < after.roles[Root.type].threshold - 1:
        raise BadSignature("the directory's new root is not signed by enough recovery keys")


def _own_root(offered: dict[int, bytes], version: int, names: Names) -> Metadata[Root]:
    """The root of that number, signed by enough keys of its own."""
    if version not in offered:
        raise BadSignature(
            "nothing leads to the newest root of the directory",
            hint="it may have started over: compare key ids and meet again: "
            "counterseal partner remove, then add",
        )
    root = load(offered[version], Root, names=names)
    if root.signed.version != version:
        raise FormatError("a root of the directory stands under another's number")
    check_signed(Root.type, root, by=root.signed)
    return root


def _check_anchor(root: Metadata[Root], card: Card) -> None:
    """Rule 4. Without it, whoever held a replaced key could go on naming keys."""
    ours = keyid_of(card.signing.key())
    recovery = {keyid_of(public.key()) for public in card.recovery.keys}
    roles = root.signed.roles
    online = roles[Timestamp.type].keyids
    if not (
        ours in roles[Root.type].keyids
        and set(roles[Root.type].keyids) <= {ours, *recovery}
        and roles[Targets.type].keyids == [ours]
        and roles[Snapshot.type].keyids == online
        and len(online) == 1
        and not set(online) & {ours, *recovery}
    ):
        raise BadSignature("the directory's root names other keys than the newest card")
    found = root.signed.get_verification_result(Root.type, root.signed_bytes, root.signatures)
    if ours not in found.signed:
        raise BadSignature("the directory's root is not signed by the newest card")


def _online(root: Root) -> str:
    return root.roles[Timestamp.type].keyids[0]


def _timestamp(
    bundle: DirectoryBundle, root: Root, names: Names, known: Known | None
) -> Metadata[Timestamp]:
    timestamp = load(bundle.file(bundles.TIMESTAMP), Timestamp, names=names)
    check_signed(Timestamp.type, timestamp, by=root)
    if known is not None:
        _check_forwards(timestamp.signed.version, known.timestamp, "timestamp")
        digest = sha256(timestamp.signed_bytes).hex()
        if timestamp.signed.version == known.timestamp and digest != known.timestamp_digest:
            raise RolledBack("two different directories carry the same number")
    return timestamp


def _snapshot(
    bundle: DirectoryBundle, root: Root, names: Names, timestamp: Timestamp, known: Known | None
) -> Snapshot:
    data, info = bundle.file(bundles.SNAPSHOT), timestamp.snapshot_meta
    check_file(data, info, name=bundles.SNAPSHOT)
    snapshot = load(data, Snapshot, names=names)
    check_signed(Snapshot.type, snapshot, by=root)
    _check_number(snapshot.signed.version, info.version)
    if known is not None:
        _check_forwards(snapshot.signed.version, known.snapshot, "snapshot")
    return snapshot.signed


def _targets(
    bundle: DirectoryBundle, root: Root, names: Names, snapshot: Snapshot, known: Known | None
) -> Targets:
    data, info = bundle.file(bundles.TARGETS), snapshot.meta[bundles.TARGETS]
    check_file(data, info, name=bundles.TARGETS)
    targets = load(data, Targets, names=names)
    check_signed(Targets.type, targets, by=root)
    _check_number(targets.signed.version, info.version)
    if known is not None:
        _check_forwards(targets.signed.version, known.targets, "targets")
    return targets.signed


def _check_number(found: int, said: int) -> None:
    if found != said:
        raise BadSignature("a file of the directory has another number than was signed for")


def _check_forwards(found: int, known: int, what: str) -> None:
    if found < known:
        raise RolledBack(
            f"this directory is older than one seen before ({what} {found}, not {known})",
            hint="ask for the newest; someone may be replaying an old one",
        )


def _check_files(bundle: DirectoryBundle, targets: Targets) -> None:
    """Rule 7: what is named is there, and nothing else is."""
    metadata = {bundles.TIMESTAMP, bundles.SNAPSHOT, bundles.TARGETS}
    roots = {bundles.root_name(version) for version in bundle.roots()}
    if set(bundle.files) != metadata | roots | set(targets.targets):
        raise FormatError("the directory does not hold the files that it names")
    if bundles.CARD not in targets.targets:
        raise FormatError("the directory names no card")
    for name, info in targets.targets.items():
        check_file(bundle.files[name], info, name=name)


def _prekeys(
    bundle: DirectoryBundle, history: History, us: str, *, at: datetime
) -> Envelope | None:
    if bundles.PREKEYS not in bundle.files:
        return None
    envelope = canonical.decode(
        bundle.files[bundles.PREKEYS],
        Envelope,
        limit=limits.PREKEY_BUNDLE_BYTES,
        what="prekey bundle",
    )
    prekeys.verify(envelope, of=history, to=us, at=at)
    return envelope


def _contact(bundle: DirectoryBundle) -> Contact | None:
    data = bundle.files.get(bundles.CONTACT)
    return None if data is None else Contact.parse(data)
