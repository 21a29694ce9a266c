"""Directories of sweeps with made-up results, for tests of what is read and reported."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snn_policy.sweeps.digests import digest_of

VERSIONS = {"snn-policy": "0.1.0", "numpy": "2.3.0", "gymnasium": "1.2.0", "mujoco": "3.3.0"}
TOML = '[seeds]\nfirst = 5000\ncount = 20\n\n[[actors]]\npath = "model.zip"\n'


def made_cell(
    key: str,
    returns: Sequence[float],
    *,
    actor: str = "td3-Hopper",
    label: str = "ANN",
    environment: str = "Hopper-v5",
    seed: int = 5000,
    baseline: str | None = None,
    purpose: str = "report",
    engine: str | None = None,
    tolerance: float = 0.02,
    **costs: float,
) -> dict[str, Any]:
    """Return a cell's document: an ANN's, or with a baseline a spiking policy's."""
    spiking = baseline is not None
    counts = {"synaptic_operations": 9_000.0 * spiking, "multiply_accumulates": 0.0 if spiking else 40_000.0,
              "iterations": 0.0, "error_spikes": 0.0, **costs}  # fmt: skip
    episodes = len(returns)
    document: dict[str, Any] = {
        "format": 1,
        "key": key,
        "cell": {
            "actor": {"name": actor, "digest": f"{sum(actor.encode()):064x}"},
            "role": "snn" if spiking else "ann",
            "label": label,
            "settings": {"neuron": "sigma-delta", "tolerance": tolerance} if spiking else None,
            "compression": None,
            "engine": engine,
            "baseline": baseline,
            "environment": environment,
            "environment_options": {},
            "seed": seed,
            "episodes": episodes,
            "purpose": purpose,
            "versions": VERSIONS,
            "dense_multiply_accumulates": 70_000,
        },
        "evaluation": {
            "environment": environment,
            "seeds": list(range(seed, seed + episodes)),
            "returns": [float(value) for value in returns],
            "lengths": [1000] * episodes,
            "num_envs": 10,
            "decisions": 1000 * episodes,
            "spikes": [20.0, 30.0, 25.0],
            "events": 8_000.0 if spiking else 30_000.0,
            "versions": VERSIONS,
            **counts,
        },
        "timing": {"microseconds": 25.0, "policy_seconds": 1.5, "environment_seconds": 9.0, "workers": 2},
    }
    return signed(document)


def signed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the digest that belongs to it."""
    return {**document, "sha256": digest_of(document)}


def write_sweep(
    directory: Path, cells: Sequence[Mapping[str, Any]], absent: Sequence[str] = (), select: Any = None
) -> Path:
    """Write a sweep with these cells, and keys of some that are not there."""
    (directory / "cells").mkdir(parents=True, exist_ok=True)
    for cell in cells:
        (directory / "cells" / f"{cell['key']}.json").write_text(json.dumps(cell))
    keys = [cell["key"] for cell in cells] + list(absent)
    document = {"format": 1, "name": "tolerances", "file": TOML, "cells": keys, "select": select}
    (directory / "sweep.json").write_text(json.dumps(document))
    return directory


def grid(
    actors: Mapping[str, tuple[str, float]], tolerances: Sequence[float], episodes: int = 20, seed: int = 0
) -> list[dict[str, Any]]:
    """Return cells of actors, each with its environment and its mean return, as ANN and with every tolerance.

    The larger the tolerance, the less return and the less energy.
    """
    generator = np.random.default_rng(seed)
    cells = []
    for place, (actor, (environment, mean)) in enumerate(actors.items()):
        ann = mean + 0.05 * abs(mean) * generator.standard_normal(episodes)
        key = f"{place:04x}" + "a" * 28
        cells.append(made_cell(key, ann.tolist(), actor=actor, environment=environment))
        for number, tolerance in enumerate(tolerances, 1):
            lost = 0.5 * tolerance * abs(mean) + 0.02 * abs(mean) * generator.standard_normal(episodes)
            fallen = generator.random(episodes) < tolerance
            returns = np.where(fallen, ann - 0.6 * abs(mean), ann - lost)
            label = f"SigmaDelta(tolerance={tolerance:g})"
            cells.append(
                made_cell(f"{place:04x}{number:04x}" + "b" * 24, returns.tolist(), actor=actor, label=label,
                          environment=environment, baseline=key, tolerance=tolerance,
                          synaptic_operations=400 / tolerance)
            )  # fmt: skip
    return cells


ACTORS = {
    "td3-Hopper": ("Hopper-v5", 3400.0),
    "sac-Hopper": ("Hopper-v5", 3000.0),
    "td3-HalfCheetah": ("HalfCheetah-v5", 9700.0),
    "td3-Pendulum": ("Pendulum-v1", -150.0),
}
