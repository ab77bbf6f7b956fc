import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

from hypothesis import given
from hypothesis import strategies as st

from counterseal.errors import UnsafeFormat
from counterseal.models.names import check_names

letters = st.sampled_from("aA.b/ \\:é\u0301ßSſKK\0\x1b\u202econul\u200b~-İi")
names = st.text(letters, max_size=8) | st.text(max_size=12)


def accepted(*names):
    try:
        check_names(names)
    except UnsafeFormat:
        return False
    return True


@given(names)
def test_an_accepted_name_stays_in_its_folder_everywhere(name):
    if not accepted(name):
        return
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        assert not path.is_absolute()
        assert not path.drive
        assert ".." not in path.parts
        assert path.as_posix() == name
    assert name.encode().decode() == name
    assert unicodedata.normalize("NFC", name) == name
    assert all(unicodedata.category(letter) not in {"Cc", "Cf", "Cs"} for letter in name)


@given(st.lists(names, max_size=6))
def test_accepted_names_never_meet(names):
    if not accepted(*names):
        return
    folded = [unicodedata.normalize("NFC", name.casefold()) for name in names]
    for i, one in enumerate(folded):
        for other in folded[i + 1 :]:
            assert one != other
            assert not one.startswith(other + "/")
            assert not other.startswith(one + "/")


@given(st.lists(names, max_size=6, unique=True))
def test_the_order_of_names_does_not_matter(names):
    assert accepted(*names) == accepted(*reversed(names))
