"""One measured point of a scaling study: what `scaling` measures, `results/scaling.json` holds and `plots` draws."""

from dataclasses import dataclass

AXES = ("timesteps", "width", "depth", "batch")


@dataclass(frozen=True)
class ScalingPoint:
    """Hold the times of one spiking network at one size. They are microseconds per decision of one row.

    Attributes:
        axis, value: what was varied (one of `AXES`), and its value.
        neuron, engine: what was timed.
        timesteps: of one decision.
        ratio: to the ANN of the same size and batch in ONNX Runtime, the median over rounds; spread: its quartiles.
        p99_ratio: this p99 by that ANN's.
        ann_median: that ANN's microseconds.
        synaptic_operations, multiply_accumulates: of the spiking network, means per decision.
        dense_macs: the ANN's multiply-accumulates.
    """

    axis: str
    value: int
    neuron: str
    engine: str
    timesteps: int
    median: float
    p99: float
    ratio: float
    spread: tuple[float, float]
    p99_ratio: float
    ann_median: float
    synaptic_operations: float
    multiply_accumulates: float
    dense_macs: int
