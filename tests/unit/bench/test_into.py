"""`bench report --into` replaces what stands between two lines of a document, and nothing else."""

import json

import pytest
from click.testing import CliRunner

from counterseal.bench import charter
from counterseal.bench.charter import Profile
from counterseal.cli.bench import show
from counterseal.errors import FormatError

DOCUMENT = "# Ours\n\n<!-- kept.json -->\nold\n<!-- end -->\n\n<!-- other.json -->\n<!-- end -->\n"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    place = tmp_path_factory.mktemp("bench") / "kept.json"
    raw = charter.run(Profile(runs=1, seconds=0.001, charters=(1,), permissions=2))
    place.write_text(json.dumps(raw))
    return place


def into(kept, document):
    ended = CliRunner().invoke(show, [str(kept), "--into", str(document)])
    if ended.exception is not None:
        raise ended.exception


def test_the_place_of_a_result_is_replaced_and_replaced_again(kept, tmp_path):
    document = tmp_path / "document.md"
    document.write_text(DOCUMENT)
    into(kept, document)
    once = document.read_text()
    before, _, rest = once.partition("<!-- kept.json -->\n")
    table, _, after = rest.partition("<!-- end -->")
    assert before == "# Ours\n\n"
    assert after == "\n\n<!-- other.json -->\n<!-- end -->\n"
    assert "old" not in table
    assert "decision, remembered, 1 charter, CPU" in table
    into(kept, document)
    assert document.read_text() == once


def test_a_document_without_a_place_is_left_alone(kept, tmp_path):
    document = tmp_path / "document.md"
    document.write_text("# Ours\n")
    with pytest.raises(FormatError, match="has not one place"):
        into(kept, document)
    assert document.read_text() == "# Ours\n"
