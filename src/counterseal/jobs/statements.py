"""The owner's statement: made at sealing, carried through re-sealing, checked at opening."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from counterseal.crypto import statement as p256
from counterseal.errors import BadSignature, FormatError, RevokedKey
from counterseal.exchange.plan import StatementMaker
from counterseal.models import statement as statements
from counterseal.models.manifest import Owner
from counterseal.trust import signed
from counterseal.trust.partner import PartnerBook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from counterseal.models.manifest import FileEntry, Manifest
    from counterseal.trust.history import DatedCard, History
    from counterseal.trust.identity import Identity
    from counterseal.trust.store import Store

__all__ = ["Ownership", "carry", "make", "verify"]


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who stated these to be their files. `name` is None while nobody we pinned did."""

    identity: str | None
    name: str | None

    @property
    def verified(self) -> bool:
        return self.name is not None


NOBODY = Ownership(None, None)


def make(*, by: Identity, model: str, layout: str, at: datetime) -> StatementMaker:
    """A new statement by the sender itself."""
    signer = by.signer(at=at)
    card = by.current(at=at)
    pem = p256.public_pem(card.card.statement)

    # Signatures of nothing, never published: the placeholder only has to be long enough.
    blank = signed.sign_bytes(b"", statements.PAYLOAD_TYPE, by=[signer]).signatures

    def placeholder(files: Sequence[FileEntry]) -> str:
        payload = statements.payload(files, model=model, layout=layout, content="0" * 64)
        longest = bytes(statements.P256_SIGNATURE_BYTES)
        return statements.bundle(payload, p256=longest, public_pem=pem, hybrid=blank)

    def final(files: Sequence[FileEntry], content: str) -> str:
        payload = statements.payload(files, model=model, layout=layout, content=content)
        hybrid = signed.sign_bytes(payload, statements.PAYLOAD_TYPE, by=[signer]).signatures
        p256_signature = by.sign_statement(statements.message(payload), at=at)
        return statements.bundle(payload, p256=p256_signature, public_pem=pem, hybrid=hybrid)

    return StatementMaker(Owner(identity=by.history.identity, card=card.key_id), placeholder, final)


def carry(text: str, *, layout: str, by: Identity) -> StatementMaker | None:
    """An existing statement of an owner we know, to travel on. None if it is our own.

    Raises FormatError if nobody we know signed it: we do not pass on what we cannot check.
    """
    parsed = statements.parse(text)
    keyids = {signature.keyid for signature in parsed.envelope.signatures}
    for history in [by.history, *(partner.history for partner in PartnerBook(by.store).list())]:
        for dated in history.cards:
            if not keyids or not keyids <= set(dated.card.signing.key().key_ids):
                continue
            if history.identity == by.history.identity:
                return None
            if dated.revoked is not None:  # nobody could open what we would send along
                raise RevokedKey(f'the statement was signed with a revoked key of "{history.name}"')
            owner = Owner(identity=history.identity, card=dated.key_id)
            _check_signatures(parsed, dated)
            return StatementMaker(owner, lambda _: text, _unchanged(text, parsed, layout))
    raise FormatError(
        f'"{statements.SIGNATURE_NAME}" is a statement by somebody unknown',
        hint="pin its owner's card, or remove the file, or --no-oms to send it along as a file",
    )


def _unchanged(
    text: str, parsed: statements.Statement, layout: str
) -> Callable[[Sequence[FileEntry], str], str]:
    def final(files: Sequence[FileEntry], content: str) -> str:
        try:
            parsed.check(files, layout=layout, content=content)
        except BadSignature as error:
            raise BadSignature(
                error.message,
                hint="they were changed since the owner signed: undo that, or remove "
                f"{statements.SIGNATURE_NAME} to seal them as your own",
            ) from None
        return text

    return final


def verify(manifest: Manifest, *, sender: History, store: Store) -> Ownership:
    """Check the statement in a manifest against its owner's pinned card.

    Raises BadSignature if the owner is known and the statement is not theirs or not about
    these files. An owner we have not pinned is reported as not verified.
    """
    document = manifest.document
    if document.owner is None or document.statement is None:
        return NOBODY
    parsed = statements.parse(document.statement)
    if parsed.content is None:
        return NOBODY  # of another tool: it does not name our leaves, so it proves nothing yet
    history, name = sender, sender.name
    if document.owner.identity != sender.identity:
        partner = PartnerBook(store).by_identity(document.owner.identity)
        if partner is None:
            return Ownership(document.owner.identity, None)
        history, name = partner.history, partner.name
    dated = history.unrevoked(document.owner.card)
    _check_signatures(parsed, dated)
    parsed.check(document.files, layout=document.layout, content=manifest.content)
    return Ownership(history.identity, name)


def _check_signatures(parsed: statements.Statement, dated: DatedCard) -> None:
    signed.verify(parsed.envelope, statements.PAYLOAD_TYPE, by=dated.card.signing.key())
    p256.verify(dated.card.statement, statements.message(parsed.payload), parsed.p256)
