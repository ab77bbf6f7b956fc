"""A key id as people say it."""

from __future__ import annotations

import pytest

from counterseal.trust import keyid

KEY_ID = "0f8e35568d59649fb55fb0e5602dc678dc8910d6822beef4945aee0b5994ef05"


def test_the_word_list_can_be_read_aloud() -> None:
    listed = keyid.word_list()
    assert len(listed) == len(set(listed)) == 2**keyid.WORD_BITS
    assert all(word.isascii() and word.isalpha() and word.islower() for word in listed)


def test_eight_words_are_the_first_88_bits() -> None:
    listed = keyid.word_list()
    words = keyid.words(KEY_ID).split("-")
    assert len(words) == 8
    number = 0
    for word in words:
        number = number * 2048 + listed.index(word)
    assert number == int(KEY_ID, 16) >> (256 - 88)


@pytest.mark.parametrize("key_id", ["0" * 64, "f" * 64])
def test_extremes(key_id: str) -> None:
    keyid.matches(key_id, keyid.words(key_id))
    keyid.matches(key_id, keyid.digits(key_id))
    assert len(keyid.digits(key_id).replace(" ", "")) == 30


SAID = {
    "hex": KEY_ID,
    "hex in capitals": KEY_ID.upper(),
    "hex in groups": " ".join(KEY_ID[n : n + 8] for n in range(0, 64, 8)),
    "words": keyid.words(KEY_ID),
    "words with spaces and capitals": "  " + keyid.words(KEY_ID).replace("-", " ").upper() + "\n",
    "words with commas": keyid.words(KEY_ID).replace("-", ", "),
    "digits": keyid.digits(KEY_ID),
    "digits without groups": keyid.digits(KEY_ID).replace(" ", ""),
    "digits with hyphens": keyid.digits(KEY_ID).replace(" ", "-"),
}


@pytest.mark.parametrize("form", SAID)
def test_accepted(form: str) -> None:
    keyid.matches(KEY_ID, SAID[form])
