"""What a robot's runtime does with step.onnx: onnxruntime, NumPy, and no word of spikes.

    python examples/step_host.py run/cheetah/step.onnx observations.npy       # consecutive, (N, *observation_shape)

The graph counts its timesteps itself: `memory.timestep` is 0 again when a decision is complete.
"""

import sys

import numpy as np
import onnxruntime


class Host:
    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.names = [each.name for each in self.session.get_outputs()]
        self.reset()

    def reset(self) -> None:
        inputs = [each for each in self.session.get_inputs() if each.name.startswith("memory.")]
        self.memory = {each.name: np.zeros((1, *each.shape[1:]), np.float32) for each in inputs}

    def act(self, obs: np.ndarray) -> np.ndarray:
        while True:
            feeds = {"obs": np.asarray(obs, np.float32)[None], **self.memory}
            out = {k: np.asarray(v) for k, v in zip(self.names, self.session.run(self.names, feeds), strict=True)}
            self.memory = {name: out[name.removesuffix("in") + "out"] for name in self.memory}
            if self.memory["memory.timestep.in"][0, 0] == 0:
                return out["action"][0]


if __name__ == "__main__":
    host = Host(sys.argv[1])
    for observation in np.load(sys.argv[2]):
        print(*host.act(observation))
