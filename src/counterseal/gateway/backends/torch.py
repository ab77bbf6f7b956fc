"""A torch module that its owner built in code, as a predictor.

Only from Python: a module is code, and no file format brings one here without running what
the file says. TorchScript and `torch.export` archives (`.pt2`) are not loaded: the first is a
program, the second unpickles. Export to ONNX to serve from a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from counterseal._extras import require
from counterseal.errors import FormatError
from counterseal.gateway.tensors import datatype_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from counterseal.gateway.tensors import Spec

__all__ = ["TorchPredictor"]


class TorchPredictor:
    """Calls `module` with the inputs in the order of `inputs`; it gives a tensor, or a tuple of
    them in the order of `outputs`, or a mapping with their names."""

    platform = "pytorch"

    def __init__(self, module: Any, *, inputs: tuple[Spec, ...], outputs: tuple[Spec, ...]) -> None:
        if not inputs or not outputs:
            raise ValueError("a predictor has inputs and outputs")
        if any(spec.datatype == "BYTES" for spec in (*inputs, *outputs)):
            raise ValueError("torch has no tensors of BYTES")
        self._module = module.eval()
        self.inputs = inputs
        self.outputs = outputs

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        torch = require("torch", extra="torch")
        device = next((one.device for one in self._module.parameters()), "cpu")
        # `tensor` copies: a request's array is read-only, and a module may write in place.
        arguments = [torch.tensor(inputs[spec.name], device=device) for spec in self.inputs]
        try:
            with torch.inference_mode():
                answer = self._module(*arguments)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise FormatError("the model cannot answer this input") from error
        return self._named(answer)

    def _named(self, answer: Any) -> dict[str, Any]:
        if hasattr(answer, "detach"):
            answer = (answer,)
        if not hasattr(answer, "keys"):
            if len(answer) != len(self.outputs):
                raise ValueError(f"{len(answer)} outputs, {len(self.outputs)} were declared")
            answer = dict(zip((spec.name for spec in self.outputs), answer, strict=True))
        arrays = {spec.name: answer[spec.name].detach().cpu().numpy() for spec in self.outputs}
        for spec in self.outputs:
            if (found := datatype_of(arrays[spec.name])) != spec.datatype:
                raise ValueError(f'the output "{spec.name}" is {found}, not {spec.datatype}')
        return arrays
