"""P-256 keys in a PKCS#11 token: made there, used there, destroyed there (SPEC 2.11.2).

One key for one purpose: what signs never derives, what derives never signs. The token is told
that keys are sensitive, not extractable and not to be changed, and asked whether it agrees.

What only the token can give back (`keep_key`) is agreed with a key of its own: the ticket has
that key's handle and a point of which nobody knows the logarithm. The key's *public* point is
thrown away as it is made. So the secret cannot be computed from the file even by somebody who
can take discrete logarithms; and no mechanism is needed that a token might not have, for
every token that can be used here at all agrees on P-256.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from counterseal.crypto import p256
from counterseal.crypto.derive import derive_from_shares
from counterseal.errors import CountersealError, FormatError, TrustError
from counterseal.trust.keystores.cryptoki import Library, libraries, text_of
from counterseal.trust.keystores.halves import TokenHalf

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from counterseal.trust.keystores import Purpose
    from counterseal.trust.keystores.cryptoki import Login
    from counterseal.trust.keystores.uri import Pkcs11Uri

__all__ = ["Pkcs11Token", "check", "unlock"]

_NAME_BYTES: Final = 80
HANDLE_BYTES: Final = 16  # CKA_ID: random, so it is found by nobody's mistake
_CURVE: Final = bytes.fromhex("06082a8648ce3d030107")  # CKA_EC_PARAMS: the name of P-256


def unlock(where: Pkcs11Uri, pin: bytes, *, serial: str = "", owner: str = "") -> Pkcs11Token:
    """Give the token its PIN. Without `serial` it is to be used for the first time.

    `owner` is who new keys are named after, unless the URI says. The name gets a random end,
    so that what `made` finds was made for one keystore and no other.
    """
    library, token = _find(where, serial)
    if where.object is None or not serial:
        name = where.object or f"counterseal {owner}"
        if len(name.encode()) > _NAME_BYTES:
            raise FormatError(f"the object of the PKCS#11 URI has more than {_NAME_BYTES} bytes")
        where = replace(where, object=f"{name} {os.urandom(4).hex()}")
    return Pkcs11Token(library, token, library.login(token, pin), where)


def check(where: Pkcs11Uri, *, serial: str) -> None:
    """Raise unless the token is here; needs no PIN."""
    _find(where, serial)


def _find(where: Pkcs11Uri, serial: str) -> tuple[Library, Any]:
    for library in libraries(where):
        token = library.find(where, serial)
        if token is not None:
            return library, token
    raise TrustError(
        f'there is no token "{where.token}" here',
        hint="is it plugged in? its library: pkcs11:token=NAME?module-path=/usr/lib/.../lib....so",
    )


class Pkcs11Token:
    """A token with an open session. Closed by `close`, or when nobody has it any more."""

    def __init__(self, library: Library, token: Any, login: Login, uri: Pkcs11Uri) -> None:
        self.uri = uri
        self.serial = text_of(token.serial)
        self._library = library
        self._api = library.api
        self._login = login
        self.close = weakref.finalize(self, library.logout, login)

    def generate(self, purpose: Purpose, tag: str) -> tuple[bytes, bytes]:
        return self._generate(f"{self.uri.object} {tag} {purpose}", signs=purpose != "agreement")

    def sign(self, handle: bytes, digest: bytes) -> bytes:
        with self._speaking("sign"):
            key = self._key(handle, may="sign")
            signature: bytes = key.sign(digest, mechanism=self._api.Mechanism.ECDSA)
            return signature

    def exchange(self, handle: bytes, point: bytes) -> bytes:
        attribute, flag = self._api.Attribute, self._api.MechanismFlag
        with self._speaking("agree on a secret"):
            secret = self._key(handle, may="derive_key").derive_key(
                self._api.KeyType.GENERIC_SECRET,
                256,
                capabilities=flag(0),
                mechanism=self._api.Mechanism.ECDH1_DERIVE,
                mechanism_param=(self._api.KDF.NULL, None, point),
                # The secret has to come out: it is one half of what opens a package.
                template={attribute.SENSITIVE: False, attribute.EXTRACTABLE: True},
            )
            try:
                value: bytes = secret[attribute.VALUE]
            finally:
                secret.destroy()
            return value

    def keep_key(self) -> tuple[bytes, bytes]:
        handle, public = self._generate(f"{self.uri.object} keystore", signs=False)
        point = p256.fresh_point()
        try:
            p256.check_agreement(TokenHalf(self, handle, public))
            return handle + point, self.recall_key(handle + point)
        except BaseException:
            with suppress(CountersealError):
                self.destroy([handle])
            raise

    def recall_key(self, ticket: bytes) -> bytes:
        handle, point = ticket[:HANDLE_BYTES], ticket[HANDLE_BYTES:]
        try:
            secret = p256.exchange(TokenHalf(self, handle, b""), point)
        except ValueError:
            raise FormatError("the keystore's ticket is not one") from None
        return derive_from_shares(secret, "token key", handle, salt=point)

    def destroy(self, handles: Iterable[bytes]) -> None:
        attribute = self._api.Attribute
        with self._speaking("destroy old keys"):
            for handle in handles:
                for found in self._objects({attribute.ID: handle[:HANDLE_BYTES]}):
                    found.destroy()

    def made(self) -> frozenset[bytes]:
        attribute, kind = self._api.Attribute, self._api.ObjectClass.PRIVATE_KEY
        with self._speaking("say which keys it has"):
            keys = self._objects({attribute.CLASS: kind})
            return frozenset(
                key[attribute.ID] for key in keys if key.label.startswith(f"{self.uri.object} ")
            )

    def change_pin(self, handles: Iterable[bytes], new: bytes) -> Mapping[bytes, bytes]:
        del handles, new
        raise TrustError(
            f'the PIN belongs to the token "{self.uri.token}", which may hold other keys as well',
            hint="change it with the token's own tool, for example: pkcs11-tool --change-pin",
        )

    def _generate(self, label: str, *, signs: bool) -> tuple[bytes, bytes]:
        attribute, flag = self._api.Attribute, self._api.MechanismFlag
        handle = os.urandom(HANDLE_BYTES)
        wanted = {
            attribute.PRIVATE: True,
            attribute.SENSITIVE: True,
            attribute.EXTRACTABLE: False,
            attribute.SIGN: signs,
            attribute.DERIVE: not signs,
            attribute.DECRYPT: False,
            attribute.UNWRAP: False,
        }
        with self._speaking("make a key"):
            curve = self._login.session.create_domain_parameters(
                self._api.KeyType.EC, {attribute.EC_PARAMS: _CURVE}, local=True
            )
            public, private = curve.generate_keypair(
                id=handle,
                label=label,
                store=True,
                capabilities=flag.SIGN if signs else flag.DERIVE,
                # The public half is ours to keep (in the card) or to forget (`keep_key`).
                public_template={attribute.TOKEN: False, attribute.VERIFY: signs},
                private_template={
                    **wanted,
                    attribute.SIGN_RECOVER: False,
                    attribute.MODIFIABLE: False,
                },
            )
            point = _point(public[attribute.EC_POINT])
            public.destroy()
            wanted |= {attribute.ALWAYS_SENSITIVE: True, attribute.NEVER_EXTRACTABLE: True}
            weak = [name.name for name, value in wanted.items() if self._is(private, name) != value]
            if weak or point is None:
                private.destroy()
        if weak or point is None:
            raise TrustError(
                f'the token "{self.uri.token}" made a key that does not keep to what was asked '
                f"({', '.join(weak) or 'EC_POINT'})",
                hint="a key that could come out of it is worth no more than one in a file",
            )
        return handle, point

    def _is(self, key: Any, attribute: Any) -> bool:
        try:
            return bool(key[attribute])
        except self._api.AttributeTypeInvalid:  # a token may leave out what it never does
            return False

    def _key(self, handle: bytes, *, may: str) -> Any:
        attribute, kind = self._api.Attribute, self._api.ObjectClass.PRIVATE_KEY
        found = self._objects({attribute.CLASS: kind, attribute.ID: handle})
        if len(found) != 1:
            raise TrustError(
                f'the key is not in the token "{self.uri.token}" any more',
                hint="was it initialized again? counterseal id recover with recovery keys",
            )
        if not hasattr(found[0], may):  # what python-pkcs11 gives a key that the token lets do it
            raise TrustError(f'the token "{self.uri.token}" has that key for another purpose')
        return found[0]

    def _objects(self, template: dict[Any, Any]) -> list[Any]:
        # A search that cannot begin prints a traceback when it is collected (python-pkcs11
        # 0.10): so a session is asked for something else first, which fails in good order.
        with suppress(self._api.RandomNoRNG, self._api.FunctionNotSupported):
            self._login.session.generate_random(64)
        found = list(self._login.session.get_objects(template))
        if not found:
            self._login.session.token.slot.get_token()  # some lose their keys before they are gone
        return found

    def _speaking(self, what: str) -> Any:
        if not self.close.alive:
            raise TrustError(f'the session with the token "{self.uri.token}" is closed')
        return self._library.speaking(self.uri.token, what)

    def __repr__(self) -> str:
        return f"<Pkcs11Token {self.uri}>"


def _point(encoded: bytes) -> bytes | None:
    """CKA_EC_POINT: an octet string in DER or, from some tokens, without its wrapping."""
    wrapped = len(encoded) == p256.POINT_BYTES + 2 and encoded[:2] == b"\x04\x41"
    point = encoded[2:] if wrapped else encoded
    return point if len(point) == p256.POINT_BYTES and point[:1] == b"\x04" else None
