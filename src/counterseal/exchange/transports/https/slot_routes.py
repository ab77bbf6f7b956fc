"""Slots: two routes that strangers may use, and the two that open and close one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from counterseal.exchange.transports.https.limits import SLOT_MESSAGE_BYTES
from counterseal.exchange.transports.https.messages import Later, Response, read_all
from counterseal.exchange.transports.https.protocol import BYTES

if TYPE_CHECKING:
    from counterseal.exchange.transports.https.call import Call

__all__ = ["close", "open_", "post", "read"]


def open_(call: Call) -> Response:
    call.desk.slots.open(int(call.parts["number"]), owner=call.who, at=call.at)
    return Response(201)


def close(call: Call) -> Response:
    call.desk.slots.close(int(call.parts["number"]), owner=call.who, at=call.at)
    return Response(204)


def post(call: Call) -> Response:
    number = int(call.parts["number"])
    data = read_all(call.request.body, limit=SLOT_MESSAGE_BYTES)
    place = call.desk.slots.post(number, data, at=call.at)
    return Response(201, headers={"location": f"/v1/slots/{number}/messages/{place}"})


def read(call: Call) -> Response | Later:
    number, place = int(call.parts["number"]), int(call.parts["place"])
    data = call.desk.slots.read(number, place, at=call.at)
    if data is not None:
        return Response(200, data, {"content-type": BYTES, "cache-control": "no-store"})
    wait = call.wait()
    return Later(wait) if wait else Response(204)
