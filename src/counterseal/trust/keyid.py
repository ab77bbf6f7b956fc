"""A key id as people say it: eight words, or thirty digits, or 64 hex characters.

Eight words of 2048 carry 88 bits and thirty digits 99: making another card whose id reads
the same takes about 2^88 tries (2^88 / T for any one of T targets).
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Final

from counterseal.crypto.digest import equal
from counterseal.errors import TrustError

__all__ = ["digits", "matches", "word_list", "words"]

WORDS: Final = 8
WORD_BITS: Final = 11
DIGITS: Final = 30


@cache
def word_list() -> tuple[str, ...]:
    """The 2048 English words of BIP-39."""
    text = resources.files("counterseal.trust").joinpath("words.txt").read_text("ascii")
    return tuple(text.split())


def words(key_id: str) -> str:
    """Eight words, joined by hyphens."""
    number = int(key_id, 16)
    listed = word_list()
    top = 256 - WORDS * WORD_BITS
    chosen = number >> top
    shifts = range((WORDS - 1) * WORD_BITS, -1, -WORD_BITS)
    return "-".join(listed[chosen >> shift & 2**WORD_BITS - 1] for shift in shifts)


def digits(key_id: str) -> str:
    """Thirty digits in groups of five."""
    text = f"{int(key_id, 16) % 10**DIGITS:0{DIGITS}d}"
    return " ".join(text[start : start + 5] for start in range(0, DIGITS, 5))


def matches(key_id: str, spoken: str) -> None:
    """Raise TrustError unless `spoken` (words, digits or hex, in any spacing) is this key id."""
    plain = re.sub(r"[\s\-_,.]+", " ", spoken.strip().lower())
    forms = (key_id, words(key_id).replace("-", " "), digits(key_id).replace(" ", ""))
    candidates = (plain.replace(" ", ""), plain, plain.replace(" ", ""))
    # surrogatepass: what was typed may not even be text
    said = [candidate.encode("utf-8", "surrogatepass") for candidate in candidates]
    if not any(equal(form.encode(), heard) for form, heard in zip(forms, said, strict=True)):
        raise TrustError(
            "the key id does not match this card",
            hint="do not use the card: ask your partner to read their key id again, over a "
            "channel that an attacker does not control",
        )
