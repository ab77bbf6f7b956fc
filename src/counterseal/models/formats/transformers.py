"""A Hugging Face folder: config.json, safetensors (one or sharded), tokenizer.json.

The model is built by transformers' own classes from the configuration and filled with our
tensors in memory. What the folder may ask for beyond that (code of its own, kernels or
weights from a hub) is refused, not ignored: the model would not be the one its owner meant.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.files import read
from counterseal.models.formats.safetensors import Safetensors
from counterseal.models.formats.seam import LoadOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from counterseal.models.files import Files

__all__ = ["Pretrained", "Transformers"]

MAX_JSON_BYTES: Final = 64 << 20  # tokenizer.json of a large vocabulary: 30 MB
_TOKENIZER_KEYS: Final = frozenset(
    {
        *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token"),
        *("mask_token", "additional_special_tokens", "extra_special_tokens"),
        *("model_max_length", "padding_side", "truncation_side", "chat_template"),
        *("clean_up_tokenization_spaces", "model_input_names"),
    }
)
_REFUSED: Final[Mapping[str, str]] = {
    "auto_map": "brings Python code of its own",
    "kernel_config": "asks for kernels from a hub",
    "use_pretrained_backbone": "asks for weights from a hub",
}
# Harmless, may be sealed, but needs libraries that we do not call.
_UNSUPPORTED: Final = ("quantization_config", "fusion_config")
# What transformers 5 was seen to raise on configurations and weights that do not fit.
_BROKEN: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A transformers model in evaluation mode, its tokenizer (if it has one), its config."""

    model: Any
    tokenizer: Any
    config: Any


class Transformers:
    """The folder around a config.json that names a `model_type` or `architectures`."""

    name = "transformers"
    media_type = "application/json"

    def claims(self, name: str, head: bytes) -> bool:
        return name == "config.json" and (b'"model_type"' in head or b'"architectures"' in head)

    def check(self, files: Files, name: str) -> None:
        _refuse(name, _json(files, name))

    def load(self, files: Files, name: str, options: LoadOptions) -> Pretrained:
        """`name` is the config.json; the other files are looked for beside it."""
        settings = _json(files, name)
        _refuse(name, settings)
        for key in _UNSUPPORTED:
            if settings.get(key):
                raise FormatError(
                    f'"{name}" has a {key}: such models are not loaded here',
                    hint="open the package to a folder and load it with its own library",
                )
        folder = posixpath.dirname(name)
        weights = _weights(files, folder, options)
        transformers = require("transformers", extra="torch")
        logs = require("transformers.utils.logging", extra="torch")
        invalid = require("huggingface_hub.errors", extra="torch").StrictDataclassError
        shown = logs.is_progress_bar_enabled()
        logs.disable_progress_bar()  # ours is the only talk on stderr
        try:
            config = transformers.AutoConfig.for_model(**settings)
            chosen = _model_class(transformers, settings, config)
            model, report = chosen.from_pretrained(
                None,
                config=config,
                state_dict=weights,
                local_files_only=True,
                output_loading_info=True,
            )
        except (*_BROKEN, invalid) as error:
            raise FormatError(
                f'transformers cannot build "{name}": {type(error).__name__}: {error}'
            ) from error
        finally:
            if shown:
                logs.enable_progress_bar()
        missing = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
        if missing:
            # transformers would fill these with random numbers and only warn.
            raise FormatError(f'the weights beside "{name}" lack {missing[0]!a} and maybe more')
        if options.device is not None:
            model = model.to(options.device)
        return Pretrained(model.eval(), _tokenizer(files, folder, transformers), config)


def _refuse(name: str, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _refuse(name, item)
    elif isinstance(value, dict):
        for key, item in value.items():
            reason = _REFUSED.get(key) if item else None
            if key.endswith("attn_implementation") and item not in {None, "eager", "sdpa"}:
                reason = "asks for kernels from a hub"  # "owner/name" is downloaded and run
            if reason:
                raise UnsafeFormat(
                    f'"{name}" {reason} ("{key}")',
                    hint=f'if the model works without, remove "{key}" from {name}',
                )
            _refuse(name, item)


def _model_class(transformers: Any, settings: dict[str, Any], config: Any) -> Any:
    wished = settings.get("architectures") or [""]
    named = getattr(transformers, wished[0], None) if isinstance(wished[0], str) else None
    # The name is the sender's: only a model class made for this very configuration will do.
    if (
        isinstance(named, type)
        and issubclass(named, transformers.PreTrainedModel)
        and getattr(named, "config_class", None) is type(config)
    ):
        return named
    known = transformers.MODEL_MAPPING[type(config)]
    return known[0] if isinstance(known, tuple | list) else known


def _weights(files: Files, folder: str, options: LoadOptions) -> dict[str, Any]:
    options = LoadOptions(framework="torch", device=options.device)
    present = {*files.names()}
    single = posixpath.join(folder, "model.safetensors")
    index = single + ".index.json"
    if single in present:
        return Safetensors().load(files, single, options)
    if index not in present:
        raise FormatError(
            f'there is no "{single}" and no "{index}"',
            hint="save the model with save_pretrained(..., safe_serialization=True)",
        )
    table = _json(files, index).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(item, str) for item in table.values()):
        raise FormatError(f'"{index}" has no weight_map')
    weights: dict[str, Any] = {}
    for shard in sorted({*table.values()}):
        path = posixpath.join(folder, shard)
        if path not in present or not shard.endswith(".safetensors"):
            raise FormatError(f'"{index}" names the file {shard!a}, which is not there')
        tensors = Safetensors().load(files, path, options)
        if {key for key, place in table.items() if place == shard} != tensors.keys():
            raise FormatError(f'"{index}" and "{path}" do not agree on the tensors')
        weights.update(tensors)
    return weights


def _tokenizer(files: Files, folder: str, transformers: Any) -> Any:
    path = posixpath.join(folder, "tokenizer.json")
    if path not in files.names():
        return None
    text = _text(files, path)
    tokenizers = require("tokenizers", extra="torch")
    try:
        inner = tokenizers.Tokenizer.from_str(text)
    except Exception as error:
        if type(error) is not Exception:  # tokenizers raises the bare class for bad input
            raise
        raise FormatError(f'"{path}" is not a tokenizer: {error}') from error
    settings: dict[str, Any] = {}
    config = posixpath.join(folder, "tokenizer_config.json")
    if config in files.names():
        settings = _json(files, config)
        _refuse(config, settings)
    # A model's forward() knows only some inputs: which, its usual tokenizer class says.
    usual = getattr(transformers, str(settings.get("tokenizer_class")), None)
    if "model_input_names" not in settings and isinstance(usual, type):
        settings["model_input_names"] = list(getattr(usual, "model_input_names", []))
    wanted = {key: value for key, value in settings.items() if key in _TOKENIZER_KEYS and value}
    try:
        return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **_tokens(wanted))
    except _BROKEN as error:
        raise FormatError(f'"{config}" does not fit "{path}": {error}') from error


def _tokens(settings: dict[str, Any]) -> dict[str, Any]:
    """Special tokens are texts, or tables with the text under "content"."""
    return {
        key: value.get("content") if isinstance(value, dict) and "content" in value else value
        for key, value in settings.items()
    }


def _json(files: Files, name: str) -> dict[str, Any]:
    try:
        value = json.loads(_text(files, name))
    except (ValueError, RecursionError) as error:
        raise FormatError(f'"{name}" is not valid JSON: {error}') from error
    if not isinstance(value, dict):
        raise FormatError(f'"{name}" is not a JSON object')
    return value


def _text(files: Files, name: str) -> str:
    if files.size(name) > MAX_JSON_BYTES:
        raise UnsafeFormat(f'"{name}" is larger than {MAX_JSON_BYTES} bytes')
    try:
        return read(files, name).decode()
    except UnicodeDecodeError as error:
        raise FormatError(f'"{name}" is not UTF-8') from error
