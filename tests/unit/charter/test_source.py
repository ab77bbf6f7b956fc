"""Charters as people write them: what is understood, and how what is not is said."""

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from charters import CHARTER

from counterseal.charter import source, template
from counterseal.charter.document import parse
from counterseal.errors import FormatError
from counterseal.wire import canonical

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)


def text_of(name="predict-only"):
    return template.fill(
        name,
        owner=("lab", "11" * 32),
        partner=("clinic", "22" * 32),
        asset="scan",
        identifier="c0" * 16,
        created=AT,
        begins=AT,
        ends=AT + timedelta(days=365),
    )


@pytest.mark.parametrize("name", template.TEMPLATES)
def test_every_template_is_a_charter(name):
    text = text_of(name)
    assert "@" not in re.sub(r"#.*|[a-z.]+@[a-z.]+", "", text)
    charter = source.read(text.encode(), name="c.toml")
    assert parse(canonical.encode(charter)) == charter
    assert charter.limits.quotas
    assert not charter.data.train_on_inputs


@pytest.mark.parametrize("name", template.TEMPLATES)
def test_what_a_template_has_commented_out_is_a_charter_too(name):
    """Whoever takes a # away must not be told that it means nothing."""
    text = re.sub(
        r'^# ((?:\[\[|[a-z_]+ = (?!"\.\.\.)).*)$', r"\1", text_of(name), flags=re.MULTILINE
    )
    text = re.sub(r'^digests? = .*"\.\.\.".*$', "", text, flags=re.MULTILINE)
    charter = source.read(text.encode(), name="c.toml")
    assert charter.limits.networks
    assert charter.limits.hours
    assert charter.compliance


BAD = {
    "a misspelled limit": (
        ("rows_per_request", "rows_per_reqest"),
        "limits.rows_per_reqest: this version knows no such field",
    ),
    "an action nobody knows": (
        ('action = "predict"', 'action = "steal"'),
        "permissions[0].action: invalid enum value 'steal'",
    ),
    "a number in quotes": (
        ("count = 120", 'count = "120"'),
        "limits.rate.count: expected `int`, got `str`",
    ),
    "a unit nobody counts": (('unit = "rows"', 'unit = "cups"'), "limits.quotas[1].unit"),
    "a role twice": (('"analyst", "auditor"', '"analyst", "analyst"'), "partner.roles: something"),
    "a role the partner has not": (('["analyst"]', '["steward"]'), "a role that the partner has"),
    "a term that ends before it begins": (("ends = 2027", "ends = 2025"), "ends before it begins"),
    "a time without a zone": (
        ("begins = 2026-06-01T12:00:00Z", "begins = 2026-06-01T12:00:00"),
        "begins",
    ),
    "a second version without the first": (("version = 1 ", "version = 2 "), "names the one"),
    "a version rule that is none": (('"~1.0"', '">1"'), "no version rule"),
    "a purpose both allowed and prohibited": (
        ('["model-training", "resale"]', '["diagnosis-support"]'),
        "allowed and prohibited",
    ),
    "a network with host bits": (
        ("# networks = [", 'networks = ["192.0.2.1/24"] #'),
        "limits: 192.0.2.1/24 has host bits set",
    ),
    "a ladder that does not rise": (("at = 60", "at = 30"), "does not rise"),
    "no permission": (
        (re.compile(r"\[\[permissions\]\].*(?=\[limits\])", re.DOTALL), ""),
        "permissions",
    ),
    "a fraction": (("burst = 20", "burst = 2.5"), "expected `int`, got `float`"),
    "a section that is missing": ((re.compile(r"\[session\][^[]*"), ""), "session: this has to be"),
    "a word on its own": (("title =", "title"), "is not TOML"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_not_understood_is_refused_with_its_place(what):
    (old, new), said = BAD[what]
    text = text_of()
    changed = old.sub(new, text) if isinstance(old, re.Pattern) else text.replace(old, new)
    assert changed != text
    with pytest.raises(FormatError) as refused:
        source.read(changed.encode(), name="c.toml")
    assert said in refused.value.message
    if found := re.search(r"line (\d+): ([\w.\[\]]+)", refused.value.message):
        line = changed.splitlines()[int(found[1]) - 1]
        assert found[2].rpartition(".")[2].partition("[")[0] in line


def test_a_line_is_found_inside_tables_of_tables():
    text = text_of().replace('period = "month"', 'period = "week"')
    with pytest.raises(FormatError) as refused:
        source.read(text.encode(), name="c.toml")
    line = int(re.search(r"line (\d+)", refused.value.message)[1])
    assert 'period = "week"' in text.splitlines()[line - 1]


def yaml_of(value, indent=""):
    """Plain YAML, as a person would write it."""
    lines = []
    for name, one in value.items():
        if isinstance(one, dict):
            lines += [f"{indent}{name}:", yaml_of(one, indent + "  ")]
        elif isinstance(one, list | tuple) and one and isinstance(one[0], dict):
            lines.append(f"{indent}{name}:")
            for item in one:
                first, *rest = yaml_of(item, indent + "    ").splitlines()
                lines += [f"{indent}  - {first.strip()}", *rest]
        elif isinstance(one, list | tuple):
            lines.append(f"{indent}{name}: [{', '.join(repr(x) for x in one)}]")
        elif isinstance(one, bool) or one is None:
            lines.append(f"{indent}{name}: {str(one).lower() if one is not None else 'null'}")
        elif isinstance(one, int):
            lines.append(f"{indent}{name}: {one}  # so many")
        else:
            plain = re.fullmatch(r"[0-9T:Z-]+", one) and one.endswith("Z")
            lines.append(f"{indent}{name}: {one if plain else repr(one)}")
    return "\n".join(lines)


def test_yaml_says_the_same():
    text = yaml_of(msgspec.to_builtins(CHARTER))
    assert source.read(text.encode(), name="c.yaml") == CHARTER


SURPRISES = {
    "an anchor": ("a: &x 1\nb: *x", "no anchors"),
    "a tag that runs code": ("a: !!python/object:os.system x", "no anchors, aliases or tags"),
    "a name twice": ("title: a\ntitle: b", "line 2: not a name, or a name twice"),
    "a list": ("- 1", "has to begin with names"),
    "no end of brackets": ("a: " + "[" * 5000, "is not YAML"),
    "more depth than anybody needs": ("a: " + "[" * 20 + "]" * 20, "too deep"),
    "a word that YAML 1.1 takes for false": (
        "limits:\n  rows_per_request: no",
        "line 2: limits.rows_per_request: expected `int`, got `str`",
    ),
    "a time that YAML 1.1 takes for a number": ("version: 12:30", "version: expected `int`"),
    "an unknown name": ("treaty: 1", "line 1: treaty: this version knows no such field"),
}


@pytest.mark.parametrize("what", SURPRISES)
def test_yaml_has_no_surprises(what):
    text, said = SURPRISES[what]
    with pytest.raises(FormatError, match=re.escape(said)):
        source.read(text.encode(), name="c.yml")


def test_what_is_not_text_or_too_long():
    with pytest.raises(FormatError, match="not UTF-8"):
        source.read(b"\xff", name="c.toml")
    with pytest.raises(FormatError, match="longer than"):
        source.read(b"#" * (1 << 20), name="c.toml")
