"""The worked example of docs/policies.md runs as it stands there."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "policies.md"


def test_the_worked_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"## A worked example\n.*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example is not None
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    (tmp_path / "example.py").write_text(example[1])
    with warnings.catch_warnings(action="ignore"):
        exec(compile(example[1], str(tmp_path / "example.py"), "exec"), names)
    walker, lab, agent = names["walker"], names["lab"], names["agent"]
    obs = names["log"][:100]
    assert np.allclose(lab.step(obs * np.float32(1.01), ())[0], walker.step(obs, ())[0], atol=1e-5)
    assert np.allclose(agent.step(obs, ())[0], np.clip(walker.step(obs, ())[0], -3, 3) / 3, atol=1e-5)
    assert all(policy.act(obs[0]).shape == (12,) for policy in names["policies"])
