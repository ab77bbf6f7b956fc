"""The network of organizations that the journeys through it need."""

import clock
import organizations
import pytest
from network import Network, why_no_weather, why_not


@pytest.fixture(scope="session")
def founded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("town")
    organizations.found_town(folder)
    return folder


@pytest.fixture(scope="session")
def wrong_clock(tmp_path_factory):
    return clock.build_clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture
def town(tmp_path, founded, wrong_clock):
    """lab, clinic and relay in namespaces of their own, the rival in the middle."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with Network() as network, organizations.Town(tmp_path, network, founded, wrong_clock) as town:
        yield town


@pytest.fixture
def skewed(town):
    if town.clock is None:
        pytest.skip("a wrong clock needs Debian's gcc")
    return town


@pytest.fixture
def weather(town):
    reason = why_no_weather()
    if reason is not None:
        pytest.skip(reason)
    return town.network.weather
