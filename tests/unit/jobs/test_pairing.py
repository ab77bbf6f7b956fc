"""A pairing over a slot that loses connections."""

import threading
from queue import Empty, Queue

import pytest
from workshop import AT, PASSPHRASE

from counterseal.errors import Dropped, TimedOut
from counterseal.jobs import pairing
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.partner import PartnerBook


class Slot:
    """Two queues; `losses` says which of our calls find the connection lost."""

    def __init__(self, mine, theirs, losses=()):
        self._mine, self._theirs = mine, theirs
        self._losses = iter(losses)

    def _perhaps(self):
        if next(self._losses, False):
            raise Dropped("lost")

    def post(self, message):
        self._perhaps()
        self._theirs.put(message)

    def messages(self, *, wait):
        self._perhaps()
        try:
            yield self._mine.get(timeout=min(wait, 0.05))
        except Empty:
            return


@pytest.fixture
def sides(tmp_path):
    found = []
    for name in ("lab", "clinic"):
        home = Home(tmp_path / name)
        us = Identity.create(name, home=home, passphrase=PASSPHRASE, at=AT)
        found.append((us, PartnerBook(home.store)))
    return found


def meet(sides, losses):
    (lab, lab_book), (clinic, clinic_book) = sides
    invitation = pairing.new_invitation(lab, at=AT)
    one, two = Queue(), Queue()
    common = {"now": lambda: AT, "sleep": lambda _: None, "wait": 30}
    met = []
    thread = threading.Thread(
        target=lambda: met.append(
            pairing.invite(
                invitation,
                Slot(one, two, losses),
                us=lab,
                book=lab_book,
                refused=lambda _: None,
                **common,
            )
        )
    )
    thread.start()
    slot = Slot(two, one, losses)
    met.append(pairing.accept(invitation.code, slot, us=clinic, book=clinic_book, **common))
    thread.join(30)
    return {one.partner.name for one in met}


@pytest.mark.parametrize("losses", [(), (False, True), (False, True, True, False, True)])
def test_a_connection_that_is_lost_ends_no_pairing(sides, losses):
    assert meet(sides, losses) == {"lab", "clinic"}


def test_a_slot_that_never_worked_is_said_at_once(sides):
    (lab, book), _ = sides
    invitation = pairing.new_invitation(lab, at=AT)
    slot = Slot(Queue(), Queue(), [True])
    with pytest.raises(Dropped):
        pairing.invite(invitation, slot, us=lab, book=book, refused=print, wait=30, now=lambda: AT)


def test_a_connection_that_stays_lost_is_said_in_the_end(sides):
    (lab, book), _ = sides
    invitation = pairing.new_invitation(lab, at=AT)
    slot = Slot(Queue(), Queue(), [False] + [True] * 1000)
    time = iter(range(1000))
    with pytest.raises((Dropped, TimedOut)):
        pairing.invite(
            invitation,
            slot,
            us=lab,
            book=book,
            refused=print,
            wait=30,
            now=lambda: AT,
            clock=lambda: float(next(time)),
            sleep=lambda _: None,
        )
