"""The open loop of graphs of stages: what sigma-delta neurons do on a recording, as `open_loop.encode` finds of chains.

Without recurrence, stage by stage, each on what its sources have sent; what a stage has sent is kept until its last
reader is done. A recurrent network's values depend on all that it has sent before: its predictors are chosen on the
ANN's own values, and it is run itself over the recording, from a reset wherever an episode begins.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.ann.layers import Head
from snn_policy.ann.memory import cleared
from snn_policy.calibration.episodes import lanes
from snn_policy.calibration.open_loop import BLOCK_VALUES, Encoding, OpenLoop, Recording, StageEncoder
from snn_policy.calibration.recordings import pieces, release, scratch
from snn_policy.calibration.trajectories import Trajectory, received
from snn_policy.engines import ReferenceEngine, make_engine
from snn_policy.errors import UnsupportedLayerError
from snn_policy.progress import Passes
from snn_policy.protocol import FloatArray
from snn_policy.session import Engine
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons

Encoded = tuple[SigmaDeltaNeurons, OpenLoop]


def encode_graph(recording: Recording, run: Trajectory, quanta: tuple[FloatArray, ...], encoding: Encoding) -> Encoded:
    """Run the recording through the spiking graph, choosing each neuron's predictor; `run`: the ANN's own."""
    if run.graph.recurrent:
        return _encoded_in_sequence(recording, run, quanta, encoding)
    return _encoded_stage_by_stage(recording, run, quanta, encoding)


def _predictor(encoder: StageEncoder, encoding: Encoding, groups: tuple[int, int]) -> FloatArray:
    chosen = encoding.predictor
    return encoder.cheapest(groups) if chosen == "auto" else encoder.everywhere(chosen)


def _encoded_stage_by_stage(
    recording: Recording, run: Trajectory, quanta: tuple[FloatArray, ...], encoding: Encoding
) -> Encoded:
    graph, h, decisions = run.graph, recording.inputs, len(recording.inputs)
    given = encoding.neurons(quanta, quanta, recording.offset)
    recording.passes.begin(decisions * len(quanta) * (2 if encoding.predictor == "auto" else 1))
    sent: dict[int, FloatArray] = {}
    chosen, spikes = [], []
    for index, stage in enumerate(graph.stages):
        encoder = StageEncoder(h, recording.offset_of(index), given, index, recording.passes)
        neurons = encoder.neurons(_predictor(encoder, encoding, graph.groups[index]))
        sent[index] = scratch(*h.shape)
        for rows, known in encoder.run(neurons, BLOCK_VALUES):
            sent[index][rows] = known
            release(sent[index])
        chosen.append(neurons.gamma)
        spikes.append(neurons.spikes.sum() / decisions)
        h = scratch(decisions, stage.width)
        for rows in pieces(h):
            known = {one.source: sent[one.source][rows] for one in stage.connections}
            h[rows] = stage.cell.advance(received(stage, known, ()), None)[0]
            release(h)
        waiting = {one.source for later in graph.stages[index + 1 :] for one in later.connections}
        sent = {source: values for source, values in sent.items() if source in waiting}
    found = encoding.neurons(quanta, tuple(chosen), recording.offset)
    return found, OpenLoop(*recording.errors(h), np.array(spikes))


def _encoded_in_sequence(
    recording: Recording, run: Trajectory, quanta: tuple[FloatArray, ...], encoding: Encoding
) -> Encoded:
    decisions = len(recording.inputs)
    given = encoding.neurons(quanta, quanta, recording.offset)
    choosing = len(quanta) if encoding.predictor == "auto" else 0
    recording.passes.begin(decisions * (choosing + 1))
    chosen = []
    for index, values in enumerate(run.values):
        encoder = StageEncoder(values, recording.offset_of(index), given, index, recording.passes)
        chosen.append(_predictor(encoder, encoding, run.graph.groups[index]))
    found = encoding.neurons(quanta, tuple(chosen), recording.offset)
    y, spikes = run_network(SpikingNetwork(analog(recording.actor), found), run, recording.passes)
    return found, OpenLoop(*recording.errors(y), spikes / decisions)


def analog(actor: Actor) -> Actor:
    """Return the actor's graph alone: from normalised observations to what its head is given."""
    unbounded = np.full(actor.head.outputs, np.inf)
    shape = (actor.graph.inputs,)
    return replace(actor, normaliser=None, observation_shape=shape, head=Head.clip(-unbounded, unbounded))


def run_network(network: SpikingNetwork, run: Trajectory, passes: Passes) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    """Return what a network of a bare graph gives on the recording, (N, outputs), and its spikes per stage in all."""
    laid, inputs, y = lanes(run.starts), run.values[0], np.empty_like(run.outputs)
    session = _engine(network).session(laid.rows.shape[1])
    obs = np.zeros((laid.rows.shape[1], inputs.shape[1]), np.float32)
    going = np.zeros(len(obs), np.bool_)
    for rows, begins in laid:
        going[:] = np.arange(len(obs)) < len(rows)
        obs[: len(rows)] = inputs[rows]
        if begins.any():
            fresh = np.zeros(len(obs), np.bool_)
            fresh[: len(rows)] = begins
            session.store(cleared(session.state, fresh))
        usable = session.accept(obs) and session.run(None if going.all() else going)
        y[rows] = session.actions_like(obs)[: len(rows)] if usable else np.inf
        passes.advance(len(rows))
    return y, session.counters.spikes.sum(axis=0).astype(np.float64)


def _engine(network: SpikingNetwork) -> Engine:
    """Return the fastest engine that runs the network here."""
    try:
        return make_engine(network, "auto")
    except UnsupportedLayerError:
        return ReferenceEngine(network)
