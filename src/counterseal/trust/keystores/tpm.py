"""P-256 keys of a TPM 2.0: kept outside it, used only inside it (SPEC 2.11.3).

A TPM has hardly any room. It hands each key out encrypted under its own storage key and takes
it back for one operation: such a blob is the handle, and lies in the keystore. The PIN is the
authorization of every key, and the TPM counts wrong ones (dictionary-attack lockout).

A TPM cannot forget a blob. What was forgotten is gone with the last copy of the file; an old
copy opens with this TPM and the PIN that it had then.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from counterseal.crypto.derive import KEY_BYTES, bind
from counterseal.crypto.digest import sha256
from counterseal.errors import FormatError, TrustError
from counterseal.trust.keystores.tss import Tpm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from counterseal.trust.keystores import Purpose
    from counterseal.trust.keystores.tss import Visit
    from counterseal.trust.keystores.uri import TpmUri

__all__ = ["TpmToken", "check", "unlock"]

_COORDINATE_BYTES: Final = 32


def unlock(where: TpmUri, pin: bytes, *, serial: str = "") -> TpmToken:
    """Whether the PIN is right shows when the first key is used."""
    tpm = Tpm(where, serial)
    with tpm.visit("answer"):
        return TpmToken(tpm, pin)


def check(where: TpmUri, *, serial: str) -> None:
    """Raise unless this TPM is here; needs no PIN."""
    with Tpm(where, serial).visit("answer"):
        pass


class TpmToken:
    """A TPM, and the authorization of our keys in it."""

    def __init__(self, tpm: Tpm, pin: bytes) -> None:
        self._tpm = tpm
        self._api = tpm.api
        self._auth: bytes | None = _authorization(pin)

    @property
    def uri(self) -> TpmUri:
        return self._tpm.uri

    @property
    def serial(self) -> str:
        return self._tpm.serial

    def generate(self, purpose: Purpose, tag: str) -> tuple[bytes, bytes]:
        del tag  # a blob has no label
        can = self._api.TPMA_OBJECT
        # What signs cannot agree and what agrees cannot sign: the TPM holds to these two.
        kind, use = ("ecc256:null:null", can.DECRYPT)
        if purpose != "agreement":
            kind, use = ("ecc256:ecdsa-sha256:null", can.SIGN_ENCRYPT)
        handle, public = self._create(kind, use | can.SENSITIVEDATAORIGIN, b"")
        point = public.publicArea.unique.ecc
        return handle, b"\x04" + _coordinate(point.x) + _coordinate(point.y)

    def sign(self, handle: bytes, digest: bytes) -> bytes:
        api = self._api
        with self._using(handle, "sign") as (visit, key):
            # Kept by name: what belongs to a structure of C is gone as soon as that is.
            signature = visit.chip.sign(
                key,
                api.TPM2B_DIGEST(digest),
                api.TPMT_SIG_SCHEME(scheme=api.TPM2_ALG.NULL),  # the key's: ECDSA with SHA-256
                api.TPMT_TK_HASHCHECK(tag=api.TPM2_ST.HASHCHECK, hierarchy=api.TPM2_RH.NULL),
                session1=visit.session,
            )
            halves = signature.signature.ecdsa
            return _coordinate(halves.signatureR) + _coordinate(halves.signatureS)

    def exchange(self, handle: bytes, point: bytes) -> bytes:
        api = self._api
        x, y = point[1 : 1 + _COORDINATE_BYTES], point[1 + _COORDINATE_BYTES :]
        theirs = api.TPM2B_ECC_POINT(api.TPMS_ECC_POINT(x=x, y=y))
        with self._using(handle, "agree on a secret") as (visit, key):
            ours = visit.chip.ecdh_zgen(key, theirs, session1=visit.session)
            return _coordinate(ours.point.x)

    def keep_key(self) -> tuple[bytes, bytes]:
        key = os.urandom(KEY_BYTES)
        ticket, _ = self._create("keyedhash", 0, key)
        return ticket, key

    def recall_key(self, ticket: bytes) -> bytes:
        with self._using(ticket, "give a key back") as (visit, key):
            return bytes(visit.chip.unseal(key, session1=visit.session))

    def destroy(self, handles: Iterable[bytes]) -> None:
        """Nothing of ours lies in the TPM."""

    def made(self) -> frozenset[bytes]:
        return frozenset()

    def change_pin(self, handles: Iterable[bytes], new: bytes) -> Mapping[bytes, bytes]:
        auth, changed = _authorization(new), {}
        for handle in handles:
            public, _ = self._split(handle)
            with self._using(handle, "change its PIN") as (visit, key):
                private = visit.chip.object_change_auth(
                    key, visit.parent, self._api.TPM2B_AUTH(auth), session1=visit.session
                )
            changed[handle] = public.marshal() + private.marshal()
        self._auth = auth
        return changed

    def close(self) -> None:
        self._auth = None

    def _create(self, kind: str, use: Any, data: bytes) -> tuple[bytes, Any]:
        api, can = self._api, self._api.TPMA_OBJECT
        # Without NODA: wrong PINs are counted.
        wanted = can.FIXEDTPM | can.FIXEDPARENT | can.USERWITHAUTH | use
        secret = api.TPMS_SENSITIVE_CREATE(userAuth=self._authorized(), data=data)
        with self._tpm.visit("make a key") as visit:
            private, public, *_ = visit.chip.create(
                visit.parent,
                api.TPM2B_SENSITIVE_CREATE(secret),
                api.TPM2B_PUBLIC.parse(kind, objectAttributes=wanted),
                session1=visit.session,
            )
        if public.publicArea.objectAttributes != wanted:
            raise TrustError(f"{self._tpm.name} made a key that does not keep to what was asked")
        return public.marshal() + private.marshal(), public

    @contextmanager
    def _using(self, handle: bytes, what: str) -> Iterator[tuple[Visit, Any]]:
        auth = self._authorized()
        public, private = self._split(handle)
        with self._tpm.visit(what) as visit, visit.loaded(public, private, auth) as key:
            yield visit, key

    def _authorized(self) -> bytes:
        if self._auth is None:
            raise TrustError(f"the session with {self._tpm.name} is closed")
        return self._auth

    def _split(self, handle: bytes) -> tuple[Any, Any]:
        try:
            public, used = self._api.TPM2B_PUBLIC.unmarshal(handle)
            private, rest = self._api.TPM2B_PRIVATE.unmarshal(handle[used:])
        except self._api.TSS2_Exception:
            used, rest = -1, -1
        if used + rest != len(handle):
            raise FormatError("the keystore names a key in a way that no TPM does")
        return public, private

    def __repr__(self) -> str:
        return f"<TpmToken {self.uri}>"


def _authorization(pin: bytes) -> bytes:
    """A TPM takes 32 bytes at most, and drops zeros at the end: so a digest of the PIN."""
    if not pin:
        raise FormatError("a PIN is not empty")
    return sha256(bind("tpm authorization", pin))


def _coordinate(value: Any) -> bytes:
    """Of full length; a TPM may leave leading zeros out."""
    return bytes(value).rjust(_COORDINATE_BYTES, b"\0")
