"""TorchScript files of graphs of stages: compared with the policy as they are written, then used as robots do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import SpikingPolicy
from snn_policy.bundle import Bundle
from snn_policy.exporting import verification
from tests.stage_graphs import GRAPHS, walk
from tests.test_export_stages import network

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_module_is_the_policy(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from snn_policy.exporting.torchscript import export_torchscript

    monkeypatch.setattr(verification, "OBSERVATIONS", 30)
    of = network(kind, 0.0 if kind == "gru" else 0.5)
    made = export_torchscript(Bundle(of, {}, {}), tmp_path / "policy.pt", observations=walk(30)[:, 0])
    assert [found.passed for found in made.verification] == [True, True]
    module: Any = torch.jit.load(tmp_path / "policy.pt")
    policy, differences = SpikingPolicy(of, engine="numpy"), []
    for _ in range(2):
        module.reset_memory()
        policy.reset()
        for obs in walk(20, seed=4)[:, 0]:
            differences.append(abs(module(torch.from_numpy(obs)).numpy() - policy.act(obs)).max())
    assert np.mean(np.array(differences) < 1e-5) > 0.8
    assert module.memory.shape[1] == sum(of.memory_widths.values())
