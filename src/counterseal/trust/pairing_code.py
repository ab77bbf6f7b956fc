"""The short code that an inviter reads aloud, and what is left of it (SPEC 2.9).

    4711-hobby-valid-actor        slot, which a relay sees; three words, 33 bits, which it does not

The slot is where both sides look for each other and in no way part of the secret. The words are
the password of CPace: 33 random bits would fall in seconds to anybody who could test guesses
alone, and CPace sees to it that a guess costs a message to one of the two who know the code.
An `Invitation` counts those messages: three answers, or one success, and the code is dead.
"""

from __future__ import annotations

import difflib
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from counterseal.errors import FormatError, TrustError
from counterseal.trust import keyid
from counterseal.wire import canonical, limits
from counterseal.wire.canonical import PrivateMessage, Timestamp

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["ATTEMPTS", "LIFETIME", "SLOTS", "Code", "Invitation"]

SLOTS: Final = 9999
ATTEMPTS: Final = 3  # an attacker's chance against three words: 3 / 2^33
LIFETIME: Final = timedelta(hours=1)
WORDS: Final = (3, 4)
_NEW_CODE: Final = "make a new code: counterseal partner invite"


@dataclass(frozen=True, slots=True, repr=False)
class Code:
    """`slot` is public, `words` are secret."""

    slot: int
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.slot <= SLOTS or len(self.words) not in WORDS:
            raise FormatError(
                "this is not a code",
                hint="a number from 1 to 9999 and three or four words: 4711-hobby-valid-actor",
            )
        for word in self.words:
            if word not in keyid.word_list():
                close = difflib.get_close_matches(word, keyid.word_list(), n=3, cutoff=0.75)
                raise FormatError(
                    f'"{word}" is not a word of a code',
                    hint=f"did you mean {' or '.join(close)}?" if close else None,
                )

    @classmethod
    def make(cls, *, slot: int | None = None, words: int = 3) -> Code:
        """A new random code; `slot` if a relay gave one, `words` is 3 or 4."""
        if words not in WORDS:
            raise ValueError("a code has three or four words")
        chosen = tuple(secrets.choice(keyid.word_list()) for _ in range(words))
        return cls(1 + secrets.randbelow(SLOTS) if slot is None else slot, chosen)

    @classmethod
    def parse(cls, typed: str) -> Code:
        """As people type: any case; spaces, commas, dots and hyphens separate.

        A word that is none is told here and now, and costs no attempt.
        """
        slot, *words = re.sub(r"[\s\-_,.]+", " ", typed.lower()).split() or [""]
        return cls(int(slot) if re.fullmatch(r"[0-9]{1,4}", slot) else 0, tuple(words))

    @property
    def spoken(self) -> str:
        return "-".join((str(self.slot), *self.words))

    @property
    def password(self) -> bytes:
        """What CPace takes: the words alone, whatever was typed between them."""
        return "-".join(self.words).encode("ascii")

    def __repr__(self) -> str:
        return f"<Code {self.slot}>"


class Invitation(PrivateMessage, frozen=True):
    """What an inviter must remember of a code, through restarts. Keep it encrypted."""

    kind: Literal["invitation"]
    format: Literal[1]
    slot: int
    words: tuple[str, ...]
    attempts: Annotated[int, msgspec.Meta(ge=0, le=ATTEMPTS)]
    used: bool
    expires: Timestamp

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self.code  # noqa: B018 - its own rules
        except FormatError as error:
            raise ValueError(error.message) from None  # msgspec makes it a decoding error

    @classmethod
    def create(
        cls,
        *,
        at: datetime,
        slot: int | None = None,
        words: int = 3,
        lifetime: timedelta = LIFETIME,
    ) -> Invitation:
        code = Code.make(slot=slot, words=words)
        return cls(
            kind="invitation",
            format=1,
            slot=code.slot,
            words=code.words,
            attempts=ATTEMPTS,
            used=False,
            expires=canonical.timestamp(at + lifetime),
        )

    @classmethod
    def parse(cls, data: bytes) -> Invitation:
        return canonical.decode(data, cls, limit=limits.INVITATION_BYTES, what="invitation")

    def encode(self) -> bytes:
        return canonical.encode(self)

    @property
    def code(self) -> Code:
        return Code(self.slot, self.words)

    def check_open(self, *, at: datetime) -> None:
        """Raise TrustError once the code has brought a partner or its time is over."""
        if self.used:
            raise TrustError("this code was used: it is good for one partner", hint=_NEW_CODE)
        if at > self.expires:
            raise TrustError(
                f"this code ended at {self.expires:%Y-%m-%d %H:%M} UTC", hint=_NEW_CODE
            )

    def counted(self, *, at: datetime) -> Invitation:
        """With one attempt less, to be stored before the answer leaves; TrustError if none."""
        self.check_open(at=at)
        if self.attempts == 0:
            raise TrustError(f"this code is dead after {ATTEMPTS} attempts", hint=_NEW_CODE)
        return msgspec.structs.replace(self, attempts=self.attempts - 1)

    def spent(self) -> Invitation:
        return msgspec.structs.replace(self, attempts=0, used=True)

    def left(self) -> str:
        """What to do after a wrong code, as a hint."""
        return left(self.attempts) if self.attempts else _NEW_CODE


def left(attempts: int) -> str:
    return f"{attempts} attempt{'' if attempts == 1 else 's'} left"
