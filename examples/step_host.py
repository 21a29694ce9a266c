"""What a robot's runtime does with step.onnx: onnxruntime, NumPy, and no word of spikes.

    python examples/step_host.py                                              # a shipped policy, exported on the spot
    python examples/step_host.py run/cheetah/step.onnx observations.npy       # consecutive, (N, *observation_shape)

The graph counts its timesteps itself: `memory.timestep` is 0 again when a decision is complete.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime


class Host:
    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        self.reset()

    def reset(self) -> None:
        inputs = [value for value in self.session.get_inputs() if value.name.startswith("memory.")]
        self.memory = {entry.name: np.zeros((1, *entry.shape[1:]), np.float32) for entry in inputs}

    def act(self, obs: np.ndarray) -> np.ndarray:
        while True:
            feeds = {"obs": np.asarray(obs, np.float32)[None], **self.memory}
            out = {k: np.asarray(v) for k, v in zip(self.names, self.session.run(self.names, feeds), strict=True)}
            self.memory = {name: out[name.removesuffix("in") + "out"] for name in self.memory}
            if self.memory["memory.timestep.in"][0, 0] == 0:
                return out["action"][0]


def main(graph: str, recording: str) -> None:
    """Print the action of every observation."""
    host = Host(graph)
    for observation in np.load(recording):
        print(*np.atleast_1d(host.act(observation)))


def demonstrate() -> None:
    """Export a shipped policy, record what it observes, and run the graph; only this needs `snn_policy` and `onnx`."""
    from snn_policy import SpikingPolicy
    from snn_policy.exported import path

    policy = SpikingPolicy.load(path("td3-Pendulum-v1"))
    with TemporaryDirectory() as directory:
        policy.export_onnx(directory)
        np.save(Path(directory) / "observations.npy", policy.actor.collect("Pendulum-v1", steps=200))
        main(str(Path(directory) / "step.onnx"), str(Path(directory) / "observations.npy"))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        demonstrate()
    elif len(sys.argv) == 3:
        main(*sys.argv[1:])
    else:
        sys.exit("step_host.py: expected STEP.onnx OBSERVATIONS.npy, or nothing")
