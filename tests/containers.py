"""One torch module in every container that it is handed over in: itself, a trace, an ONNX graph."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn


def containers(
    module: nn.Module, directory: Path, inputs: int = 6, check_trace: bool = True
) -> Iterator[nn.Module | Path]:
    """Yield the module, and the files of it: of (1, inputs) observations "obs", its result "actions".

    Args:
        check_trace: False: a trace that differs from the module is kept.
    """
    example = torch.zeros(1, inputs)
    yield module
    torch.jit.save(torch.jit.trace(module, example, check_trace=check_trace), str(directory / "p.pt"))
    yield directory / "p.pt"
    graph = directory / "p.onnx"
    torch.onnx.export(module, (example,), str(graph), dynamo=False, opset_version=17, input_names=["obs"],
                      output_names=["actions"])  # fmt: skip
    yield graph
