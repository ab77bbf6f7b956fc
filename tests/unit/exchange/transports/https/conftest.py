"""`office`: a mailbox without sockets. `street`: the same, with them."""

import pytest
from office import Office, Street


@pytest.fixture
def office(cast, tmp_path):
    made = Office(cast, tmp_path / "mailbox")
    yield made
    made.close()


@pytest.fixture
def street(cast, tmp_path):
    made = Street(cast, tmp_path / "mailbox")
    made.serve()
    yield made
    made.close()
