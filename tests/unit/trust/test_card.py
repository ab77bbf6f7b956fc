"""Cards and their documents."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from counterseal.errors import FormatError
from counterseal.trust.card import CardDocument, key_id

if TYPE_CHECKING:
    from pathlib import Path

    from counterseal.trust.history import History


def test_a_saved_card_loads_as_it_was(first: History, tmp_path: Path) -> None:
    first.document.save(tmp_path / "lab.card")
    assert CardDocument.load(tmp_path / "lab.card") == first.document
    assert CardDocument.load(str(tmp_path / "lab.card")) == first.document


def test_a_text_editor_may_add_or_take_the_last_newline(first: History) -> None:
    wire = first.document.encode()
    for text in (wire.strip(), wire + b"\n", wire.strip() + b"\r\n"):
        assert CardDocument.parse(text) == first.document


def test_the_key_id_is_of_the_card_and_of_nothing_else(first: History) -> None:
    payload = first.document.cards[0].payload
    assert key_id(payload) == first.newest.key_id
    assert key_id(payload + b" ") != first.newest.key_id


def test_a_card_is_expired_after_its_last_second(first: History) -> None:
    card = first.newest.card
    assert not card.expired(at=card.expires)
    assert card.expired(at=card.expires + timedelta(seconds=1))


@pytest.mark.parametrize("data", [b"", b"\n", b"{}", b"null", b"PK\3\4", b"\0" * 100])
def test_what_is_no_card_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        CardDocument.parse(data)
