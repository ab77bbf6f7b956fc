"""Whatever comes over the line: a pairing ends in a refusal, never in acceptance or a crash."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterseal.errors import CountersealError
from counterseal.trust import pairing_introduction
from counterseal.trust.identity import Identity
from counterseal.trust.pairing import Accepter, Code, Invitation, Inviter

if TYPE_CHECKING:
    from collections.abc import Callable

    from counterseal.trust.pairing_messages import Role, Transcript

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
LENGTHS = {1: 1282, 2: 1251, 3: 16000, 4: 16000}


@cache
def identity(name: str) -> Identity:
    return Identity.create(name, at=AT)


def meeting() -> tuple[Inviter, Accepter, Callable[[int], bytes]]:
    """Both sides, and the honest message of a step, made by the steps before it."""
    inviter = Inviter(Invitation.create(at=AT), us=identity("lab"))
    accepter = Accepter(inviter.invitation.code, us=identity("clinic"), at=AT)

    def message(step: int) -> bytes:
        if step == 1:
            return accepter.hello
        before = message(step - 1)
        result = (accepter if step == 3 else inviter).receive(before, at=AT)
        return result if isinstance(result, bytes) else result.send  # type: ignore[union-attr]

    return inviter, accepter, message


def refused(inviter: Inviter, accepter: Accepter, step: int, data: bytes) -> None:
    """`data` where message `step` is due. Only a first message may be answered at all."""
    left = inviter.invitation.attempts
    try:
        result = (inviter if step % 2 else accepter).receive(data, at=AT)
    except CountersealError:
        assert inviter.invitation.attempts == left
        return
    assert step == 1
    assert result.paired is None  # type: ignore[union-attr]
    assert result.save.attempts == left - 1  # type: ignore[union-attr]


@given(st.sampled_from([1, 2, 3, 4]), st.binary(max_size=2000))
def test_any_bytes(step: int, data: bytes) -> None:
    inviter, accepter, message = meeting()
    message(step)
    refused(inviter, accepter, step, data)


@given(st.sampled_from([1, 2, 3, 4]), st.binary(max_size=1300))
def test_any_body_after_the_right_head(step: int, body: bytes) -> None:
    inviter, accepter, message = meeting()
    refused(inviter, accepter, step, message(step)[:34] + body)


@settings(max_examples=200)
@given(st.sampled_from([1, 2, 3, 4]), st.data())
def test_any_change_of_an_honest_message(step: int, data: st.DataObject) -> None:
    inviter, accepter, message = meeting()
    honest = message(step)
    at = data.draw(st.integers(0, len(honest) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "delete"]))
    byte = bytes([data.draw(st.integers(1, 255))])
    changed = {
        "flip": honest[:at] + bytes([honest[at] ^ byte[0]]) + honest[at + 1 :],
        "cut": honest[:at],
        "insert": honest[:at] + byte + honest[at:],
        "delete": honest[:at] + honest[at + 1 :],
    }[how]
    if changed != honest:
        refused(inviter, accepter, step, changed)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), max_size=8))
def test_any_order_of_the_messages_of_two_meetings(order: list[tuple[bool, int]]) -> None:
    """Both sides of one meeting get all messages of it and of another, in any order."""
    inviter, accepter, message = meeting()
    honest = {step: message(step) for step in (1, 2, 3, 4)}
    foreign_inviter, _, foreign = meeting()
    foreign(4)
    others = {step: foreign(step) for step in (1, 2, 3, 4)}
    fresh = Inviter(inviter.invitation, us=identity("lab"))
    late = Accepter(Code.make(), us=identity("clinic"), at=AT)
    for ours, step in order:
        sent = (honest if ours else others).get(step, b"")
        for side in (fresh, late, foreign_inviter):
            if side is foreign_inviter and not ours:
                continue
            with pytest.raises(CountersealError):
                side.receive(sent, at=AT)
    assert accepter.hello == honest[1]


@settings(max_examples=200)
@given(st.data())
def test_any_introduction_by_who_has_the_code(data: st.DataObject) -> None:
    """A partner with the right code and a broken or hostile program."""
    inviter, accepter, message = meeting()

    def introduce(
        role: Role, before: Transcript, us: Identity, contact: bytes | None, at: datetime
    ) -> tuple[bytes, Transcript]:
        plain, seen = pairing_introduction.introduce(role, before, us, contact, at)
        start = data.draw(st.integers(0, len(plain) - 1))
        length = data.draw(st.integers(0, 64))
        new = data.draw(st.binary(max_size=64))
        changed = plain[:start] + new + plain[start + length :]
        return (changed if changed != plain else b"{}"), seen

    message(2)
    with mock.patch("counterseal.trust.pairing.introduce", introduce):
        hostile = message(3)
    refused(inviter, accepter, 3, hostile)


@given(st.text(max_size=60))
def test_any_text_as_a_code(typed: str) -> None:
    try:
        code = Code.parse(typed)
    except CountersealError:
        return
    assert Code.parse(code.spoken) == code


@given(st.integers(1, 9999), st.sampled_from([3, 4]), st.sampled_from("- ,._\t"), st.booleans())
def test_every_code_is_read_as_it_was_said(
    slot: int,
    words: int,
    separator: str,
    capitals: bool,  # noqa: FBT001
) -> None:
    code = Code.make(slot=slot, words=words)
    typed = code.spoken.replace("-", separator)
    assert Code.parse(typed.upper() if capitals else typed) == code
