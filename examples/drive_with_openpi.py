"""The openpi-client package, as it is, driving a spiking policy.

    snn-policy serve td3-HalfCheetah-v5                          # here
    pip install openpi-client typing_extensions                  # there, in an environment of its own: numpy<2
    python examples/drive_with_openpi.py --steps 200

Nothing of snn-policy is needed where this runs. --observations replays a recording (.npy, one per row), and
--actions stores what came back.
"""

import argparse
import time

import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy  # pyright: ignore[reportMissingImports]


def main() -> None:
    parser = argparse.ArgumentParser(description="Drive a policy server with openpi's client.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--api-key", help="the server's token")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--observations", metavar="FILE")
    parser.add_argument("--actions", metavar="FILE")
    given = parser.parse_args()

    policy = WebsocketClientPolicy(given.host, given.port, given.api_key)
    metadata = policy.get_server_metadata()
    print(f"{metadata['name']}: {metadata['observation_shape']} → {metadata['action_shape']}")
    if given.observations:
        observations = np.load(given.observations)
    else:
        shape = (given.steps, *metadata["observation_shape"])
        observations = np.sin(np.random.default_rng(0).normal(size=shape).cumsum(axis=0) / 10)

    policy.infer({"reset": True})
    actions, milliseconds = [], []
    for obs in observations:
        started = time.perf_counter()
        actions.append(policy.infer({"observation": obs})["actions"])
        milliseconds.append(1000 * (time.perf_counter() - started))
    p50, p99 = np.quantile(milliseconds, [0.5, 0.99])
    print(f"{len(actions)} actions, the last {np.round(actions[-1], 3)}; p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    if given.actions:
        np.save(given.actions, np.stack(actions))


if __name__ == "__main__":
    main()
