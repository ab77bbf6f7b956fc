"""The prekeys that a directory offers: refilled before they run out, replaced before they age.

one-time      listed for at most 30 days, kept until it is used or 120 days are over
last resort   made on day 0, replaced on day 7, deleted on day 21 (`trust.prekeys`)
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from counterseal.crypto.agreement import AgreementKey
from counterseal.trust import prekeys
from counterseal.trust.card import AgreementPublic
from counterseal.trust.prekeys import LastResort, prekey_id
from counterseal.wire import canonical

if TYPE_CHECKING:
    from datetime import datetime

    from counterseal.trust.history import History
    from counterseal.trust.identity import Identity
    from counterseal.trust.prekeys import PrekeyBundle

__all__ = ["refill"]

# What is listed again must outlive the bundle that lists it, and by far any directory.
_LISTED_WITH: Final = timedelta(days=60)


def refill(
    identity: Identity, partner: History, *, before: PrekeyBundle | None, supply: int, at: datetime
) -> PrekeyBundle:
    """The bundle to offer now: `before`, as long as it will do.

    It does until half of the `supply` is used up, or the last-resort prekey is a week old, or
    our card was replaced. Call inside `store.exclusive()`.
    """
    store = identity.prekeys
    for kind in ("one-time", "last-resort"):
        store.delete_outlived(at=at, kind=kind)
    current = identity.current(at=at)
    if before is not None and before.card != current.key_id:
        before = None
    unspent = [] if before is None else [k for k in before.keys if store.expires(prekey_id(k))]
    last = None if before is None else _young(identity, before.last_resort, at=at)
    if before is not None and last is not None and len(unspent) * 2 > supply:
        return before
    start = canonical.timestamp(at)
    listed: dict[AgreementPublic, datetime] = {}
    for key in unspent:
        expires = store.expires(prekey_id(key))
        if expires is not None and expires - start >= _LISTED_WITH:
            listed[key] = expires
    suite = current.card.agreement.suite
    while len(listed) < supply:
        made = AgreementKey.generate(suite)
        listed[AgreementPublic.of(made.public)] = start + prekeys.LIFETIME
        store.put(made, partner=partner.identity, expires=start + prekeys.LIFETIME)
    if last is None:
        made = AgreementKey.generate(suite)
        last = LastResort(
            key=AgreementPublic.of(made.public), expires=start + prekeys.LAST_RESORT_LIFETIME
        )
        store.put(made, partner=partner.identity, expires=last.expires, kind="last-resort")
    return prekeys.compose(
        identity.history,
        partner,
        list(listed)[:supply],
        at=at,
        expires=min(listed.values()),
        last_resort=last,
    )


def _young(identity: Identity, last: LastResort | None, *, at: datetime) -> LastResort | None:
    if last is None or identity.prekeys.expires(prekey_id(last.key)) is None:
        return None
    made = last.expires - prekeys.LAST_RESORT_LIFETIME
    return last if at < made + prekeys.LAST_RESORT_ROTATION else None
