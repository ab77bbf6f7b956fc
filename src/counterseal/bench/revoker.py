"""The owner at another console: takes a charter back and gives it back, again and again.

    python -m counterseal.bench.revoker HOME CHARTER ROUNDS PAUSE  ->  JSON

Of each round, on the clock that all processes of a machine share: when revoking began, when the
change was committed and announced (that is what a gateway can know), and when it was lifted.
A URL of the state is in the environment, as for `serve`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from datetime import UTC, datetime

from counterseal.bench.gateway_stage import STATE
from counterseal.bench.processes import PASSPHRASE
from counterseal.jobs.charters import CharterBook
from counterseal.jobs.gateway import administration, narrower
from counterseal.trust.home import Home
from counterseal.trust.identity import Identity
from counterseal.trust.partner import PartnerBook

__all__ = ["main"]


def main(where: str, charter: str, rounds: int, pause: float, url: str | None) -> None:
    home = Home(where)
    us = Identity.load("lab", home=home, passphrase=PASSPHRASE)
    book = CharterBook(us.history, PartnerBook(home.store), store=home.store, narrower=narrower)
    found = []
    with administration(book, by=us, home=home, url=url) as owner:
        announced = 0

        def announce() -> None:
            nonlocal announced
            owner.announce()
            announced = announced or time.monotonic_ns()

        timed = dataclasses.replace(owner, announce=announce)
        for number in range(rounds):
            time.sleep(pause * (1 + number % 7 / 7))  # not in step with anybody's clock
            announced, begun = 0, time.monotonic_ns()
            timed.revoke("charter", charter, reason=None, at=datetime.now(UTC))
            time.sleep(pause)
            lifting = time.monotonic_ns()
            found.append({"begun": begun, "announced": announced, "lifting": lifting})
            timed.lift("charter", charter)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    where, charter, rounds, pause = sys.argv[1:]
    main(where, charter, int(rounds), float(pause), os.environ.get(STATE))
