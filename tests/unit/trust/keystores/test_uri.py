"""Names of tokens: a strict part of RFC 7512."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterseal.errors import FormatError
from counterseal.trust.keystores.uri import Pkcs11Uri, TpmUri, parse

GOOD = {
    "pkcs11:token=lab": Pkcs11Uri("lab"),
    "pkcs11:token=my%20token;serial=9e;object=x?module-path=/usr/lib/a.so": Pkcs11Uri(
        "my token", "9e", "x", "/usr/lib/a.so"
    ),
    "pkcs11:serial=9e;token=lab": Pkcs11Uri("lab", "9e"),
    "pkcs11:token=lab;module-path=/usr/lib/a.so": Pkcs11Uri("lab", module="/usr/lib/a.so"),
    "tpm:": TpmUri("device:/dev/tpmrm0"),
    "tpm:device:/dev/tpm1": TpmUri("device:/dev/tpm1"),
    "tpm:swtpm:path=/run/tpm.sock": TpmUri("swtpm:path=/run/tpm.sock"),
}


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    assert parse(text) == GOOD[text]
    assert parse(str(GOOD[text])) == GOOD[text]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lab",
        "token=lab",
        "PKCS11:token=lab",
        "pkcs11:",
        "pkcs11:token",
        "pkcs11:token=",
        "pkcs11:serial=9e",
        "pkcs11:token=a;token=b",
        "pkcs11:token=a;",
        "pkcs11:token=a;slot-id=1",
        "pkcs11:token=a b",
        "pkcs11:token=a\n",
        "pkcs11:token=%",
        "pkcs11:token=%zz",
        "pkcs11:token=%00",
        "pkcs11:token=%ff",
        "pkcs11:token=%0a",
        "pkcs11:token=" + "a" * 33,
        "pkcs11:token=a;serial=" + "1" * 17,
        "pkcs11:token=a?module-path=libx.so",
        "pkcs11:token=a?module-path=../x.so",
        "pkcs11:token=" + "%41" * 400,
        "tpm:cmd:rm -r /",
        "tpm:cmd",
        "tpm:/dev/tpm0",
        "tpm:swtpm:path=/a b",
        "tpm:../evil.so",
    ],
)
def test_bad(text: str) -> None:
    with pytest.raises(FormatError):
        parse(text)


@pytest.mark.parametrize("name", ["pin-value", "pin-source"])
@pytest.mark.parametrize("separator", [";", "?", "&"])
def test_a_pin_is_refused_and_never_repeated(name: str, separator: str) -> None:
    with pytest.raises(FormatError, match=name) as caught:
        parse(f"pkcs11:token=lab{separator}{name}=482913")
    assert "482913" not in f"{caught.value} {caught.value.hint}"


@given(st.builds(Pkcs11Uri, *[st.text(min_size=1, max_size=4)] * 3))
def test_what_is_written_reads_the_same(uri: Pkcs11Uri) -> None:
    try:
        again = parse(str(uri))
    except FormatError:
        assert not (uri.token + str(uri.serial) + str(uri.object)).isprintable() or any(
            len(part.encode("utf-8", "surrogatepass")) > 16
            for part in (uri.token, str(uri.serial), str(uri.object))
        )
    else:
        assert again == uri
