"""Share AI models with partners without giving them away.

    import counterseal as cs

    lab = cs.Identity.create("lab")
    clinic = cs.Partner.pin("clinic.card", key_id="...")      # compared by voice, once
    cs.seal("scan.safetensors", by=lab, to=clinic, output="scan.sealed")

    with cs.open_sealed("scan.sealed", by=clinic_identity, sender=lab_partner) as package:
        model = package.load()

Start here: `Identity`, `Partner`, `seal`, `open_sealed`. Errors are one tree under
`CountersealError`. Names load when they are first used; importing counterseal does nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterseal.errors import (
        BadCiphertext,
        BadSignature,
        CountersealError,
        ExpiredKey,
        FormatError,
        MissingExtraError,
        ReplayedMessage,
        RevokedKey,
        RolledBack,
        TamperError,
        TrustError,
        UnknownPartner,
        UnknownVersion,
        UnsafeFormat,
    )
    from counterseal.jobs.inspect import inspect
    from counterseal.jobs.open import open_sealed
    from counterseal.jobs.package import SealedPackage
    from counterseal.jobs.recipients import add_recipient
    from counterseal.jobs.seal import Receipt, seal
    from counterseal.trust.card import CardDocument as Card
    from counterseal.trust.home import Home
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import Partner, PartnerBook

__version__ = "0.1.0"

__all__ = [
    "BadCiphertext",
    "BadSignature",
    "Card",
    "CountersealError",
    "ExpiredKey",
    "FormatError",
    "Home",
    "Identity",
    "MissingExtraError",
    "Partner",
    "PartnerBook",
    "Receipt",
    "ReplayedMessage",
    "RevokedKey",
    "RolledBack",
    "SealedPackage",
    "TamperError",
    "TrustError",
    "UnknownPartner",
    "UnknownVersion",
    "UnsafeFormat",
    "add_recipient",
    "inspect",
    "open_sealed",
    "seal",
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
    "inspect": ("counterseal.jobs.inspect", "inspect"),
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
