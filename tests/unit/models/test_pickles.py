import io
import pickle
from collections import OrderedDict

import pytest

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.machine import UNKNOWN, Broken, steps
from counterseal.models.pickles import check_state_dict, runs_code


class Bomb:
    def __reduce__(self):
        return (print, ("boom",))


def imports(data):
    return [step.imports for step in steps(io.BytesIO(data), len(data)) if step.imports]


@pytest.mark.parametrize("protocol", range(6))
def test_imports_are_found_in_every_protocol(protocol):
    found = imports(pickle.dumps([1, "x", Bomb(), {2: (3.5, b"z", 1 << 90)}], protocol))
    assert "__builtin__.print" in found or "builtins.print" in found


def test_names_put_together_through_the_memo_are_followed():
    data = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x30\x30h\0h\1\x93\x8c\x02id\x85R."
    assert imports(data) == ["os.system"]


def test_names_that_come_from_elsewhere_are_unknown():
    assert imports(b"\x80\x04\x8c\x02os\x8c\x01a\x85\x93.") == [UNKNOWN]
    assert imports(b"\x80\x04V\\u006fs\n\x8c\x06system\x93.") == [UNKNOWN]
    assert imports(b"\x80\x02\x82\x01.") == [UNKNOWN]


@pytest.mark.parametrize(
    "data", [b"R.", b"(0.", b"t.", b"\x80\x02X\xff\xff\0\0x", b"c\n", b"\x00", b"p0\n.", b"gx\n."]
)
def test_what_a_real_machine_cannot_run_is_broken(data):
    if data == b"(0.":
        data = b"(00."
    with pytest.raises(Broken):
        list(steps(io.BytesIO(data), len(data)))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("likely", [True, False])
def test_calls_are_noticed_whatever_the_name_says(protocol, likely):
    data = pickle.dumps(Bomb(), protocol)
    assert runs_code(io.BytesIO(data), len(data), likely=likely)


@pytest.mark.parametrize(
    "text",
    [
        b"cat\ndog\nNorway\n",
        b"comes with\nno warranty\n)R",
        b"In the beginning\n",
        b"(in the\nmiddle)\n",
        b'{"a": 1}',
        b"import os\n",
        b"# Title\n",
        b"[PAD]\n[unused0]\n",
        b"",
        b"N.",
    ],
)
def test_texts_are_not_taken_for_pickles(text):
    assert not runs_code(io.BytesIO(text), len(text), likely=False)


def test_a_safetensors_header_length_may_look_like_the_protocol_mark():
    data = (640).to_bytes(8, "little") + b"{" + b" " * 639
    assert data.startswith(b"\x80\x02")
    assert not runs_code(io.BytesIO(data), len(data), likely=False)


def test_long_arguments_do_not_hide_what_follows():
    data = b"X" + (100_000).to_bytes(4, "little") + b"a" * 100_000 + b"cos\nsystem\n(S'x'\ntR."
    assert runs_code(io.BytesIO(data), len(data), likely=False)
    line = b"S'" + b"a" * (2 << 20) + b"'\ncos\nsystem\n(S'x'\ntR."
    assert runs_code(io.BytesIO(line), len(line), likely=True)


def test_a_state_dict_may_hold_plain_things():
    check_state_dict("x", pickle.dumps(OrderedDict(a=[1, 2.5, "x", None, True]), 2))


@pytest.mark.parametrize("data", [b"\x80\x02", b"", b"\x80\x02}q\0\xff."])
def test_broken_pickles_are_format_errors(data):
    with pytest.raises(FormatError):
        check_state_dict("x", data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x02(S'x'\nios\nsystem\n.",
        b"\x80\x02ctorch\nload\n.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        b"\x80\x02}.trailing",
        b"\x80\x02Pid\n.",
    ],
)
def test_anything_but_tensors_is_unsafe(data):
    with pytest.raises(UnsafeFormat) as error:
        check_state_dict("x", data)
    assert error.value.hint
