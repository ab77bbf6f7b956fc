"""From an address to a transport.

PATH or file:PATH           a folder that both sides see, or a stick
s3: gs: az://BUCKET/PREFIX  an object store
https://NAME@HOST:PORT      a mailbox run by NAME, a partner we pinned
mqtts://[USER@]HOST:PORT    a broker over TLS; ?ca=FILE &password-file=FILE &cert=FILE &key=FILE
                            &version=3.1.1 for one that knows no MQTT 5
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from counterseal.errors import FormatError
from counterseal.exchange.rendezvous import BoxSlot, MailboxSlot
from counterseal.exchange.transports.bucket import SCHEMES as BUCKETS
from counterseal.trust import atomic
from counterseal.trust.addresses import AddressBook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterseal.exchange.rendezvous import Rendezvous, Side
    from counterseal.exchange.transports import Transport
    from counterseal.exchange.transports.https.client import HttpsTransport
    from counterseal.trust.identity import Identity
    from counterseal.trust.partner import Partner, PartnerBook
    from counterseal.trust.store import Store

__all__ = ["Place", "address_of", "addresses_of", "open_rendezvous", "open_transport", "parse"]

HTTPS_PORT: Final = 8443
MQTT_PORT: Final = 8883
_SESSION: Final = "mqtt-session"
_OPTIONS: Final = {
    "https": frozenset[str](),
    "mqtts": frozenset({"ca", "password-file", "cert", "key", "version"}),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A parsed address."""

    scheme: str
    path: str = ""
    host: str = ""
    port: int = 0
    user: str | None = None
    options: dict[str, str] = field(default_factory=dict)


def parse(via: str) -> Place:
    """Raises FormatError for an address of no kind that we know, and for a password in it."""
    scheme, separator, rest = via.partition("://")
    if not separator:
        return Place("file", path=via.removeprefix("file:"))
    if scheme == "file":
        return Place("file", path=unquote(rest))
    if scheme in BUCKETS:
        return Place(scheme, path=via)
    if scheme not in _OPTIONS:
        known = ", ".join(["a folder", *(f"{name}://" for name in (*BUCKETS, *_OPTIONS))])
        raise FormatError(f"no way is known to {via!r}", hint=f"one of: {known}")
    try:
        parts = urlsplit(via)
        port = parts.port
    except ValueError as error:
        raise FormatError(f"{via!r} is no address: {error}") from None
    if not parts.hostname or parts.path not in {"", "/"} or parts.fragment:
        raise FormatError(f"{via!r} is no address", hint=f"{scheme}://NAME@HOST:PORT")
    if parts.password is not None:
        raise FormatError(
            "a password does not belong in an address: others see it in the list of processes",
            hint="?password-file=FILE",
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    unknown = options.keys() - _OPTIONS[scheme]
    if unknown:
        raise FormatError(f"{scheme}:// knows no {', '.join(sorted(unknown))}")
    user = unquote(parts.username) if parts.username else None
    return Place(
        scheme,
        host=parts.hostname,
        port=port or (HTTPS_PORT if scheme == "https" else MQTT_PORT),
        user=user,
        options=options,
    )


def open_transport(
    via: str, *, by: Identity, book: PartnerBook, keep_letters: bool = False
) -> Transport:
    """Open the transport that an address names; close it after use.

    `keep_letters`: a broker keeps our letters while we are away. One process at a time for each
    identity: for who receives, not for who sends.
    """
    place = parse(via)
    if place.scheme == "file":
        from counterseal.exchange.transports.folder import FolderTransport

        return FolderTransport(Path(place.path).expanduser())
    if place.scheme in BUCKETS:
        from counterseal.exchange.transports.bucket import BucketTransport

        return BucketTransport(place.path)
    if place.scheme == "https":
        return _https(place, by=by, book=book)
    return _mqtts(place, by=by, keep_letters=keep_letters)


def open_rendezvous(
    via: str, number: int, *, us: Side, by: Identity, book: PartnerBook
) -> tuple[Rendezvous, Transport]:
    """The slot of a pairing. An accepter need not know who runs the mailbox: the code decides."""
    place = parse(via)
    if place.scheme != "https":
        transport = open_transport(via, by=by, book=book)
        return BoxSlot(transport, number, us=us), transport
    if us == "inviter":
        client = _https(place, by=by, book=book)
    else:
        from counterseal.exchange.transports.https.client import HttpsTransport

        client = HttpsTransport(place.host, place.port, by=None, server=None)
    return MailboxSlot(client, number, us=us), client


def _https(place: Place, *, by: Identity, book: PartnerBook) -> HttpsTransport:
    from counterseal.exchange.transports.https.client import HttpsTransport

    if place.user is None:
        raise FormatError(
            "who runs this mailbox?",
            hint=f"https://NAME@{place.host}:{place.port}, NAME being a pinned partner",
        )
    server = by.history if place.user == by.name else book.get(place.user).history
    partners = [partner.identity for partner in book.list()]
    return HttpsTransport(place.host, place.port, by=by, server=server, partners=partners)


def _mqtts(place: Place, *, by: Identity, keep_letters: bool) -> Transport:
    from counterseal.exchange.transports.mqtt.transport import MqttTransport

    password = None
    if "password-file" in place.options:
        path = Path(place.options["password-file"]).expanduser()
        password = atomic.read_secret(path, what="password file").decode("utf-8", "replace")
    files = {name: Path(place.options[name]).expanduser() for name in place.options}
    if ("cert" in files) != ("key" in files):
        raise FormatError("a client certificate needs both ?cert=FILE and &key=FILE")
    version = place.options.get("version", "5")
    if version not in {"5", "3.1.1"}:
        raise FormatError(f"no MQTT {version} is known", hint="?version=5 or ?version=3.1.1")
    return MqttTransport(
        place.host,
        place.port,
        ca_file=files.get("ca"),
        username=place.user,
        password=password,
        certificate=(files["cert"], files["key"]) if "cert" in files else None,
        session=_session(by),
        keep_letters=keep_letters,
        version="5" if version == "5" else "3.1.1",
    )


def _session(by: Identity) -> str:
    """The secret that our sessions at brokers are named by, made when it is first needed."""
    with by.store.exclusive():
        protected = by.store.get(_SESSION, by.history.identity)
        if protected is None:
            protected = by.protect(os.urandom(16).hex().encode(), label=_SESSION)
            by.store.put(_SESSION, by.history.identity, protected)
    return by.unprotect(protected, label=_SESSION).decode()


def address_of(partner: str, via: str | None, *, store: Store) -> str:
    """`via`, else what is remembered for the partner; raises FormatError if neither is there."""
    known = via or AddressBook(store).get(partner)
    if known is None:
        raise FormatError(
            f'no address is known for "{partner}"',
            hint=f"--via ADDRESS, or once: counterseal partner address {partner} ADDRESS",
        )
    return known


def addresses_of(
    partners: Sequence[Partner], via: str | None, *, store: Store
) -> dict[str, list[Partner]]:
    """Every address to look at, with the partners whose letters may lie there."""
    if via is not None:
        return {via: list(partners)}
    routes: dict[str, list[Partner]] = {}
    for partner in partners:
        known = AddressBook(store).get(partner.name)
        if known is not None:
            routes.setdefault(known, []).append(partner)
    if not routes:
        raise FormatError(
            "no address is known",
            hint="--via ADDRESS, or: counterseal partner address NAME ADDRESS",
        )
    return routes
