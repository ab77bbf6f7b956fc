import hashlib
import re

import msgspec
import pytest

from counterseal.exchange.boxes import BlockName, Box, box

A, B, C = "11" * 32, "22" * 32, "33" * 32


def test_a_box_is_a_digest_of_both_in_order():
    text = b"counterseal/1 box\0" + b"".join(b"\0\0\0\x20" + bytes.fromhex(x) for x in (A, B))
    assert box(A, B) == hashlib.sha256(text).hexdigest()[:32]


def test_each_pair_and_direction_has_its_own():
    boxes = {box(x, y) for x in (A, B, C) for y in (A, B, C)}
    assert len(boxes) == 9
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in boxes)


@pytest.mark.parametrize(("kind", "length"), [(Box, 32), (BlockName, 64)], ids=["box", "block"])
def test_the_type_takes_no_other_form(kind, length):
    good = "a" * length
    assert msgspec.convert(good, kind) == good
    for wrong in (good[1:], good + "a", good.upper(), good[1:] + "\n", "../" + good[3:]):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, kind)
