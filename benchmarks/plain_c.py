"""Compile what the core is compared with, by the same compiler: an actor in plain C, and a policy exported as C."""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snn_policy import Actor, SpikingPolicy
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Linear
from snn_policy.bench.baselines import LeftOut
from snn_policy.engines.core import build
from snn_policy.engines.core.blocks import BLOCKS, Packed, in_order, pack
from snn_policy.protocol import FloatArray

FLAGS = ("-std=c99", "-O3", "-march=native", "-ffp-contract=off", "-fPIC", "-shared")
CACHE_LINE = 64
WIDEST_BLOCK = max(BLOCKS)
Decide = Callable[[FloatArray], Any]


def compiled(source: Path) -> ctypes.CDLL:
    """Return the file's functions, compiled for this processor; raise `LeftOut` where there is no compiler."""
    try:
        command = build.compiler()
    except build.NoCompilerError as reason:
        raise LeftOut(str(reason)) from None
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "compiled.so")
        done = subprocess.run([*command, *FLAGS, str(source), "-o", str(target)], capture_output=True, text=True)
        if done.returncode:
            raise LeftOut(f"{source.name} does not compile: {done.stderr.strip().splitlines()[0]}")
        return ctypes.CDLL(str(target))


def plain_ann(actor: Actor, skip: bool) -> Decide:
    """Return the ANN's layers in plain C, on normalised observations: dense, or skipping inputs that are zero.

    Raises:
        LeftOut: other layers than linear ones, another activation than ReLU, or no compiler.
    """
    layers = _relu_layers(actor)
    run = compiled(Path(__file__).with_name("plain_ann.c")).plain_ann
    kept = [np.ascontiguousarray(layer.weight.T) for layer in layers], [layer.bias for layer in layers]
    weights, biases = ((ctypes.c_void_p * len(layers))(*(part.ctypes.data for part in parts)) for parts in kept)
    sizes = np.array([layers[0].inputs, *(layer.outputs for layer in layers)], np.int32)
    obs, hidden, y = (np.zeros(size, np.float32) for size in (sizes[0], 2 * max(sizes), sizes[-1]))
    pointers, size_pointer = _pointers((obs, hidden, y)), ctypes.c_void_p(sizes.ctypes.data)
    count, widest = len(layers), int(max(sizes))

    def decide(given: FloatArray, _kept: Any = (kept, sizes, hidden)) -> FloatArray:
        obs[...] = given
        run(weights, biases, size_pointer, count, widest, int(skip), *pointers)
        return y

    return decide


class SparseLayer(ctypes.Structure):
    """Name the fields of `sparse_layer` (sparse_ann.h)."""

    _fields_ = [*((name, ctypes.c_void_p) for name in ("weights", "bias", "starts", "columns")),
                *((name, ctypes.c_int32) for name in ("inputs", "outputs", "block"))]  # fmt: skip


def packed(layer: Linear, vectors: bool) -> Packed | None:
    """Return the layer's blocks if the sparse ANN takes them, as the core does; else None, and it takes dense rows.

    Args:
        vectors: whether the processor has them.
    """
    found = pack(layer.weight) if in_order(layer) else None
    return found if found and (found.pays if vectors else found.bytes < found.dense) else None


def sparse_ann(actor: Actor) -> Decide:
    """Return the ANN's layers in plain C, on normalised observations, skipping zero inputs and pruned weights.

    Raises:
        LeftOut: as `plain_ann`.
    """
    layers = _relu_layers(actor)
    run = compiled(Path(__file__).with_name("sparse_ann.c")).sparse_ann
    table, kept = (SparseLayer * len(layers))(), []
    for entry, layer in zip(table, layers, strict=True):
        blocks = packed(layer, vectors=True)
        weights = np.ascontiguousarray(layer.weight.T) if blocks is None else blocks.weights
        kept += [weights, layer.bias]
        entry.weights, entry.bias = weights.ctypes.data, layer.bias.ctypes.data
        entry.inputs, entry.outputs, entry.block = layer.inputs, layer.outputs, 0
        if blocks is not None:
            kept.append(blocks)
            entry.starts, entry.columns, entry.block = (
                blocks.starts.ctypes.data, blocks.columns.ctypes.data, blocks.block,
            )  # fmt: skip
    widest = -(-max(layer.outputs for layer in layers) // WIDEST_BLOCK) * WIDEST_BLOCK
    obs, hidden, y = (np.zeros(size, np.float32) for size in (layers[0].inputs, 2 * widest, widest))
    pointers, count, outputs = _pointers((obs, hidden, y)), len(layers), layers[-1].outputs

    def decide(given: FloatArray, _kept: Any = (kept, hidden)) -> FloatArray:
        obs[...] = given
        run(table, count, widest, *pointers)
        return y[:outputs]

    return decide


def _relu_layers(actor: Actor) -> list[Linear]:
    layers = [layer for layer in actor.layers if isinstance(layer, Linear)]
    if len(layers) < len(actor.layers) or any(layer.activation != RELU for layer in layers[:-1]):
        raise LeftOut(f"{actor.name}: the plain ANN has linear layers and ReLU only")
    return layers


def exported(policy: SpikingPolicy) -> Decide:
    """Return the decision of the policy's `export_c`, compiled; raise `LeftOut` where there is no compiler."""
    with tempfile.TemporaryDirectory() as directory:
        policy.export_c(directory, prefix="timed", verify=False, vectors=True)
        library = compiled(Path(directory, "policy.c"))
    library.timed_state_size.restype = ctypes.c_size_t
    spare = np.zeros(library.timed_state_size() + CACHE_LINE, np.uint8)
    state = spare[-spare.ctypes.data % CACHE_LINE :]
    obs, action = (
        np.zeros(int(np.prod(policy.observation_shape)), np.float32),
        np.zeros(policy.action_shape, np.float32),
    )
    act, pointers = library.timed_act, _pointers((state, obs, action))
    library.timed_reset(pointers[0])

    def decide(given: FloatArray, _kept: Any = spare) -> FloatArray:
        obs[...] = given
        act(*pointers)
        return action

    return decide


def _pointers(arrays: Sequence[Any]) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(array.ctypes.data) for array in arrays]
