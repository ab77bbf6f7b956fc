"""The publisher's chain of roots: which keys may say what, and how one set follows another.

Every root is signed by enough of its own keys and of the keys before it, so a partner who knows
one root can follow to the newest. After a key was revoked or replaced by recovery keys the
chain starts again: readers then take the root from the card history (`reader`, rule 3).
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from tuf.api.metadata import Metadata, Role, Root, Snapshot, Targets, Timestamp

from counterseal.errors import BadCiphertext, BadSignature, TrustError
from counterseal.trust.directory.keys import HybridKey, HybridSigner, key_of, keyid_of
from counterseal.trust.directory.metadata import SPEC_VERSION, Names, check_signed, load, make
from counterseal.trust.directory.reader import check_restart, handed_over
from counterseal.wire import canonical, limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from counterseal.crypto.signing import Signer
    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity

__all__ = ["extend"]

ROOT_LIFETIME: Final = timedelta(days=365)
ROOT_RENEWAL: Final = timedelta(days=60)


def extend(
    chain: dict[int, bytes],
    identity: Identity,
    names: Names,
    *,
    online: HybridKey,
    threshold: int | None,
    cosigners: Sequence[Signer],
    start_over: bool,
    at: datetime,
) -> dict[int, bytes]:
    """The chain with a new root at its end, if anything about keys changed or the last one ages.

    `threshold` None: as it was, 1 in the beginning. Above 1 the recovery keys of the card have a
    say, and enough of them must be among `cosigners`.
    """
    last = load(chain[max(chain)], Root, names=names) if chain else None
    keys, needed = _root_keys(identity, last, threshold, at=at)
    root = _root(keys, needed, online=online, names=names, at=at)
    if last is not None and not start_over and _is_current(last.signed, root, at=at):
        return chain
    signers = [identity.signer(at=at), *cosigners]
    kept: list[tuple[int, bytes]] = []
    if last is not None:
        root.version = last.signed.version + 1
        before = _anchor(identity.history, last.signed)
        if not start_over and handed_over(identity.history, since=before):
            kept = list(chain.items())
            if before != identity.key_id:
                signers.append(_old_signer(identity, before))
    made = make(root, by=[HybridSigner(signer) for signer in signers])
    with _asking_for(root):
        check_signed(Root.type, made, by=root)
    if last is not None and not start_over:
        with _asking_for(last.signed):
            if kept:
                check_signed(Root.type, made, by=last.signed)
            else:
                check_restart(made, after=last.signed)
    return dict([*kept, (root.version, made.to_bytes())][-limits.DIRECTORY_ROOTS :])


def _root_keys(
    identity: Identity, last: Metadata[Root] | None, threshold: int | None, *, at: datetime
) -> tuple[list[HybridKey], int]:
    """Ours first; recovery keys only where more than one signature is asked for."""
    card = identity.current(at=at).card
    needed = threshold or (1 if last is None else last.signed.roles[Root.type].threshold)
    keys = [key_of(card.signing.key())]
    if needed > 1:
        keys += [key_of(public.key()) for public in card.recovery.keys]
    if needed > len(keys):
        raise TrustError(
            f"{needed} signatures are asked for, and the card has {len(keys) - 1} recovery keys"
        )
    return keys, needed


def _root(
    keys: Sequence[HybridKey], threshold: int, *, online: HybridKey, names: Names, at: datetime
) -> Root:
    return Root(
        version=1,
        spec_version=SPEC_VERSION,
        expires=canonical.timestamp(at) + ROOT_LIFETIME,
        keys={key.keyid: key for key in (*keys, online)},
        roles={
            Root.type: Role([key.keyid for key in keys], threshold),
            Targets.type: Role([keys[0].keyid], 1),
            Snapshot.type: Role([online.keyid], 1),
            Timestamp.type: Role([online.keyid], 1),
        },
        consistent_snapshot=False,
        unrecognized_fields=names.field(),
    )


def _is_current(last: Root, wanted: Root, *, at: datetime) -> bool:
    return (
        last.roles == wanted.roles and last.keys == wanted.keys and last.expires - at > ROOT_RENEWAL
    )


def _anchor(history: History, root: Root) -> str:
    """The key id of the card that a root of ours was made under."""
    (signer,) = root.roles[Targets.type].keyids
    for dated in history.cards:
        if keyid_of(dated.card.signing.key()) == signer:
            return dated.key_id
    raise TrustError("the last directory was made under a card that is not in our history")


def _old_signer(identity: Identity, card: str) -> Signer:
    try:
        return identity.signer_of(card)
    except BadCiphertext as error:
        raise TrustError(
            "the replaced key, which must sign the directory's new root, is deleted",
            hint="start over: partners who hold an earlier directory have to meet us again",
        ) from error


@contextmanager
def _asking_for(root: Root) -> Iterator[None]:
    try:
        yield
    except BadSignature as error:
        needed = root.roles[Root.type].threshold
        raise TrustError(
            f"the directory's root needs {needed} signatures: ours and of recovery keys",
            hint="bring the recovery keys",
        ) from error
