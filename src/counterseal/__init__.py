"""Share AI models with partners without giving them away.

    import counterseal as cs

    lab = cs.Identity.create("lab")
    clinic = cs.Partner.pin("clinic.card", key_id="...")      # compared by voice, once
    cs.seal("scan.safetensors", by=lab, to=clinic, output="scan.sealed")

    with cs.open_sealed("scan.sealed", by=clinic_identity, sender=lab_partner) as package:
        model = package.load()

    with cs.connect("https://lab@lab.example:8443", by=us, to=partners, under=charter,
                    purpose="diagnosis") as session:
        y = session.model("scan").predict(x)

    post = cs.open_transport("https://relay@mail.example:8443", by=lab, book=partners)
    cs.send("scan.sealed", by=lab, to=clinic, via=post)        # the other side: cs.receive(...)

Start here: `Identity`, `Partner`, `seal`, `open_sealed`. Errors are one tree under
`CountersealError`. Names load when they are first used; importing counterseal does nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterseal.errors import (
        Aborted,
        BadCiphertext,
        BadSignature,
        CharterDenied,
        CountersealError,
        Dropped,
        ExpiredKey,
        FormatError,
        MissingExtraError,
        PeerMisbehaved,
        PurposeMismatch,
        QuotaExceeded,
        ReplayedMessage,
        RevokedKey,
        RolledBack,
        SessionExpired,
        TamperError,
        TimedOut,
        TrustError,
        UnknownPartner,
        UnknownVersion,
        UnsafeFormat,
    )
    from counterseal.jobs.address import open_transport
    from counterseal.jobs.inspect import inspect
    from counterseal.jobs.open import open_sealed
    from counterseal.jobs.package import SealedPackage
    from counterseal.jobs.receive import receive
    from counterseal.jobs.recipients import add_recipient
    from counterseal.jobs.seal import Receipt, seal
    from counterseal.jobs.send import send
    from counterseal.jobs.session import connect
    from counterseal.trust.card import CardDocument as Card
    from counterseal.trust.home import Home
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import Partner, PartnerBook

__version__ = "0.1.0"

__all__ = [
    "Aborted",
    "BadCiphertext",
    "BadSignature",
    "Card",
    "CharterDenied",
    "CountersealError",
    "Dropped",
    "ExpiredKey",
    "FormatError",
    "Home",
    "Identity",
    "MissingExtraError",
    "Partner",
    "PartnerBook",
    "PeerMisbehaved",
    "PurposeMismatch",
    "QuotaExceeded",
    "Receipt",
    "ReplayedMessage",
    "RevokedKey",
    "RolledBack",
    "SealedPackage",
    "SessionExpired",
    "TamperError",
    "TimedOut",
    "TrustError",
    "UnknownPartner",
    "UnknownVersion",
    "UnsafeFormat",
    "add_recipient",
    "connect",
    "inspect",
    "open_sealed",
    "open_transport",
    "receive",
    "seal",
    "send",
]

_PLACES = {
    "Card": ("counterseal.trust.card", "CardDocument"),
    "Home": ("counterseal.trust.home", "Home"),
    "Identity": ("counterseal.trust.identity", "Identity"),
    "Partner": ("counterseal.trust.partner", "Partner"),
    "PartnerBook": ("counterseal.trust.partner", "PartnerBook"),
    "Receipt": ("counterseal.jobs.seal", "Receipt"),
    "SealedPackage": ("counterseal.jobs.package", "SealedPackage"),
    "add_recipient": ("counterseal.jobs.recipients", "add_recipient"),
    "connect": ("counterseal.jobs.session", "connect"),
    "inspect": ("counterseal.jobs.inspect", "inspect"),
    "open_transport": ("counterseal.jobs.address", "open_transport"),
    "receive": ("counterseal.jobs.receive", "receive"),
    "send": ("counterseal.jobs.send", "send"),
    "open_sealed": ("counterseal.jobs.open", "open_sealed"),
    "seal": ("counterseal.jobs.seal", "seal"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'counterseal' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _PLACES.get(name, ("counterseal.errors", name))
    value = getattr(import_module(module), attribute)
    globals()[name] = value  # so that the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
