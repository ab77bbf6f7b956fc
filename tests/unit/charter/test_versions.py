"""Which versions a rule covers, and which rules there are."""

import pytest

from counterseal.charter.versions import VersionRule, version

COVERS = {
    "*": ((0, 0, 0), (1, 4, 2), (999_999, 999_999, 999_999)),
    "=1.4.2": ((1, 4, 2),),
    "=1.4": ((1, 4, 0),),
    "=1": ((1, 0, 0),),
    "~1": ((1, 0, 0), (1, 9, 9)),
    "~1.4": ((1, 4, 0), (1, 4, 99)),
    "~1.4.2": ((1, 4, 2), (1, 4, 3)),
    ">=1.2,<2": ((1, 2, 0), (1, 99, 0)),
    ">=0.9.9,<0.9.10": ((0, 9, 9),),
}
COVERS_NOT = {
    "*": ((1_000_000, 0, 0),),
    "=1.4.2": ((1, 4, 1), (1, 4, 3), (2, 4, 2)),
    "=1.4": ((1, 4, 1),),
    "=1": ((1, 0, 1), (1, 1, 0)),
    "~1": ((0, 9, 9), (2, 0, 0)),
    "~1.4": ((1, 3, 9), (1, 5, 0), (2, 4, 0)),
    "~1.4.2": ((1, 4, 1), (1, 5, 0)),
    ">=1.2,<2": ((1, 1, 9), (2, 0, 0), (2, 0, 1)),
    ">=0.9.9,<0.9.10": ((0, 9, 8), (0, 9, 10)),
}
REFUSED = {
    "nothing": "",
    "a bare version": "1.4.2",
    "two signs": "==1.4",
    "a letter": "=1.4a",
    "four parts": "=1.2.3.4",
    "an empty part": "=1..2",
    "a leading zero": "=1.04",
    "a number with a sign": "=-1",
    "digits of another script": "=١",
    "a line after it": "=1.4.2\n",
    "space": ">=1.2, <2",
    "half a range": ">=1.2",
    "an open end included": ">=1.2,<=2",
    "a range of nothing": ">=2,<2",
    "a range that goes back": ">=2,<1",
    "seven digits": "=1000000",
    "a star in it": "=1.*",
}


@pytest.mark.parametrize("rule", COVERS)
def test_covers(rule):
    parsed = VersionRule.parse(rule)
    assert all(parsed.covers(one) for one in COVERS[rule])
    assert not any(parsed.covers(one) for one in COVERS_NOT[rule])


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    with pytest.raises(ValueError):
        VersionRule.parse(REFUSED[what])


def test_a_version_has_three_parts():
    assert version("1") == (1, 0, 0)
    assert version("1.4") == (1, 4, 0)
    assert version("1.4.2") == (1, 4, 2)
    with pytest.raises(ValueError, match="not a version"):
        version("v1")
