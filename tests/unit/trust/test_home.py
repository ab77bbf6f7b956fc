"""The home folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from counterseal.errors import FormatError, TrustError
from counterseal.trust.home import Home


@pytest.mark.parametrize(
    ("override", "environment", "expected"),
    [
        ("/a", {"COUNTERSEAL_HOME": "/b", "XDG_DATA_HOME": "/c"}, "/a"),
        (None, {"COUNTERSEAL_HOME": "/b", "XDG_DATA_HOME": "/c"}, "/b"),
        (None, {"XDG_DATA_HOME": "/c"}, "/c/counterseal"),
        (None, {"HOME": "/d"}, "/d/.local/share/counterseal"),
        (None, {"HOME": "/d", "COUNTERSEAL_HOME": ""}, "/d/.local/share/counterseal"),
    ],
)
def test_locate(
    override: str | None,
    environment: dict[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("COUNTERSEAL_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Home.locate(override).path == Path(expected)


def test_nothing_is_created_before_it_is_needed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert home.identities() == []
    assert not home.path.exists()
    home.ensure()
    assert home.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o770])
def test_a_home_that_others_can_enter_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(TrustError, match="open to others"):
        Home(tmp_path).store.get("a", "b")


def test_the_only_identity(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(TrustError, match="no identity"):
        home.only_identity()
    for name in ("lab", "unfinished"):
        home.identity_folder(name).mkdir(parents=True)
    (home.identity_folder("lab") / "card.json").touch()
    assert home.only_identity() == "lab"  # the other was never finished
    (home.identity_folder("unfinished") / "card.json").touch()
    with pytest.raises(FormatError, match="several"):
        home.only_identity()


def test_close_twice(tmp_path: Path) -> None:
    home = Home(tmp_path)
    tmp_path.chmod(0o700)
    home.store.put("a", "b", b"c")
    home.close()
    home.close()
    assert home.store.get("a", "b") == b"c"
    home.close()
