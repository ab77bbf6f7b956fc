"""CPace: the test vectors of draft-irtf-cfrg-cpace-21, appendix B.1 (CPACE-X25519-SHA512).

The values are quoted from the text of the draft (datatracker.ietf.org/doc/draft-irtf-cfrg-cpace/21),
where they are BSD-licensed code components under the IETF Trust's legal provisions. The draft has
no vector for key confirmation; `test_confirmation_is_the_formula_of_the_draft` writes it out.
"""

from __future__ import annotations

import hashlib
import hmac

import pytest

from counterseal.crypto import cpace
from counterseal.crypto.cpace import Run
from counterseal.errors import Aborted

# B.1.1 to B.1.5
PASSWORD = b"Password"
CHANNEL = b"\x0bA_initiator\x0bB_responder"
SESSION = bytes.fromhex("7e4b4791d6a8ef019b936c79fb7f2c57")
GENERATOR = "d04bf6d41f6a289632a2e929fa29bebd51092512a7829fdde7d314b62f05a73f"
YA_SCALAR = "21b4f4bd9e64ed355c3eb676a28ebedaf6d8f17bdc365995b319097153044080"
YA = "1d13c89278cdadd826f6d8d7f887701430f8380ddc17611cdd6dc989ce0c9f32"
YB_SCALAR = "848b0779ff415f0af4ea14df9dd1d3c29ac41d836c7808896c4eba19c51ac40a"
YB = "248cccf6d5cdc3646f0ad593f9e6cef4e69d4945f8372e623512ecea32185623"
K = "5b067effbdc0b2a0e1d907b21ebb25cfedb96a852179a847c37e43ee71322c6b"
TRANSCRIPT_IR = (
    "201d13c89278cdadd826f6d8d7f887701430f8380ddc17611cdd6dc989ce0c9f3203414461"
    "20248cccf6d5cdc3646f0ad593f9e6cef4e69d4945f8372e623512ecea3218562303414462"
)
ISK_IR = (
    "6e19b875f7a561d6b3ca3dbb9ef42ac55de3e717881018204b8922b4d5e53bb2"
    "aa82c300bea7b65d2b671da71922ddf6472301b79bc270adfa8bf413285f2263"
)

# A.1, A.2
PREPENDED = {
    b"": "00",
    b"1234": "0431323334",
    bytes(range(127)): "7f" + bytes(range(127)).hex(),
    bytes(range(128)): "8001" + bytes(range(128)).hex(),
}

# B.1.10: the point, and X25519 of it with SCALAR; zero must abort.
SCALAR = "af46e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449aff"
ZERO = "00" * 32
LOW_ORDER = {
    "u0": ("0000000000000000000000000000000000000000000000000000000000000000", ZERO),
    "u1": ("0100000000000000000000000000000000000000000000000000000000000000", ZERO),
    "u2": ("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", ZERO),
    "u3": ("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800", ZERO),
    "u4": ("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157", ZERO),
    "u5": ("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", ZERO),
    "u7": ("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", ZERO),
}
HIGH_BIT = {
    "u6": (
        "daffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "d8e2c776bbacd510d09fd9278b7edcd25fc5ae9adfba3b6e040e8d3b71b21806",
    ),
    "u8": (
        "dbffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "c85c655ebe8be44ba9c0ffde69f2fe10194458d137f09bbff725ce58803cdb38",
    ),
    "u9": (
        "d9ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "db64dafa9b8fdd136914e61461935fe92aa372cb056314e1231bc4ec12417456",
    ),
    "ua": (
        "cdeb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b880",
        "e062dcd5376d58297be2618c7498f55baa07d7e03184e8aada20bca28888bf7a",
    ),
    "ub": (
        "4c9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f11d7",
        "993c6ad11c4c29da9a56f7691fd0ff8d732e49de6250b6c2e80003ff4629a175",
    ),
}


def run_with(scalar: str, monkeypatch: pytest.MonkeyPatch, **more: object) -> Run:
    """A run whose scalar is not random. There is no argument for that, and should be none."""
    with monkeypatch.context() as patch:
        patch.setattr(cpace.os, "urandom", lambda count: bytes.fromhex(scalar)[:count])
        return Run(PASSWORD, channel=CHANNEL, session=SESSION, **more)  # type: ignore[arg-type]


def both(monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Run]:
    return (
        run_with(YA_SCALAR, monkeypatch, role="initiator", data=b"ADa"),
        run_with(YB_SCALAR, monkeypatch, role="responder", data=b"ADb"),
    )


@pytest.mark.parametrize("data", PREPENDED, ids=len)
def test_prepend_len(data: bytes) -> None:
    assert cpace._lv_cat(data).hex() == PREPENDED[data]


def test_lv_cat() -> None:
    assert cpace._lv_cat(b"1234", b"5", b"", b"678").hex() == "043132333401350003363738"


def test_generator() -> None:
    assert cpace._generator(PASSWORD, CHANNEL, SESSION).hex() == GENERATOR


def test_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = both(monkeypatch)
    assert (a.share.hex(), b.share.hex()) == (YA, YB)


def test_secret_point() -> None:
    for scalar, share in ((YA_SCALAR, YB), (YB_SCALAR, YA)):
        found = cpace._multiply(bytes.fromhex(scalar), bytes.fromhex(share), "initiator")
        assert found.hex() == K


def test_intermediate_session_key(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = both(monkeypatch)
    at_a, at_b = a.finish(b.share, b"ADb"), b.finish(a.share, b"ADa")
    assert at_a.isk.hex() == at_b.isk.hex() == ISK_IR


def test_confirmation_is_the_formula_of_the_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = both(monkeypatch)
    at_a = a.finish(b.share, b"ADb")
    mac_key = hashlib.sha512(b"CPaceMac" + SESSION + bytes.fromhex(ISK_IR)).digest()
    half = len(TRANSCRIPT_IR) // 2
    sent, received = (bytes.fromhex(part) for part in (TRANSCRIPT_IR[:half], TRANSCRIPT_IR[half:]))
    assert at_a.confirmation == hmac.new(mac_key, sent, "sha512").digest()
    assert at_a.expected == hmac.new(mac_key, received, "sha512").digest()


@pytest.mark.parametrize("name", LOW_ORDER)
@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_a_point_of_low_order_aborts(name: str, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point = bytes.fromhex(LOW_ORDER[name][0])
    for scalar in (SCALAR, YA_SCALAR):
        run = run_with(scalar, monkeypatch, role=role, data=b"")
        with pytest.raises(Aborted) as caught:
            run.finish(point, b"AD")
        assert caught.value.check == "share"
        assert caught.value.party == ("responder" if role == "initiator" else "initiator")


@pytest.mark.parametrize("name", HIGH_BIT)
def test_bit_255_of_a_point_is_ignored(name: str) -> None:
    point, expected = HIGH_BIT[name]
    found = cpace._multiply(bytes.fromhex(SCALAR), bytes.fromhex(point), "initiator")
    assert found.hex() == expected
