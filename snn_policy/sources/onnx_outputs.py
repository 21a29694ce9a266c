"""Which output of an ONNX graph is the action: chosen by what it is, then by its name, never by its position.

An index that an ArgMax makes is the action. Otherwise a name says so, the output's own or, where an exporter only
numbered it, that of the layer it comes from. Constants, samples, and what is named a value, a spread or a state are no
actions.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from onnx import NodeProto

from snn_policy.errors import SourceError, UnsupportedLayerError, warn
from snn_policy.sources.onnx_values import Graph

RANDOM = frozenset({
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
})  # fmt: skip

_ORDER_ONLY = frozenset({
    "Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
})  # fmt: skip
_ELEMENTWISE = frozenset({
    "Add", "Cast", "Clip", "Div", "Expand", "Flatten", "Identity", "Mul", "Reshape", "Squeeze", "Sub", "Tanh",
})  # fmt: skip

# words of names; two neighbouring words count as one, too (log_prob, LogProb)
_NEVER = frozenset({
    "value", "values", "val", "vf", "vpred", "critic", "baseline", "advantage", "advantages", "qvalue", "qvalues",
    "qval", "qf", "logprob", "logprobs", "logp", "neglogp", "logits", "logit", "prob", "probs", "probability",
    "probabilities", "entropy", "std", "stddev", "sigma", "logstd", "variance", "deviation", "version",
})  # fmt: skip
_HARDLY = frozenset({
    "prev", "previous", "last", "next", "old", "raw", "unscaled", "sample", "samples", "sampled", "stochastic",
    "random", "memory", "size", "shape", "shapes", "mask", "masks", "dist", "var", "q", "v", "estimate", "latent",
    "obs", "observation", "observations", "reward", "done", "state", "states", "hidden", "cell", "h", "c", "hn", "cn",
    "hx", "cx", "h0", "c0", "rnn", "lstm", "gru", "carry",
})  # fmt: skip
_EXACTLY = frozenset({
    "action", "actions", "act", "acts", "continuousaction", "continuousactions", "discreteaction", "discreteactions",
})  # fmt: skip
_WORDS = frozenset({"action", "actions", "act", "acts"})
_MEANS = frozenset({"mu", "mean", "means", "loc", "mode", "policy", "pi", "control", "controls", "ctrl", "actor"})
_SAY_NOTHING = frozenset({
    "linear", "gemm", "matmul", "mm", "addmm", "add", "sub", "mul", "div", "tanh", "clamp", "clip", "view", "reshape",
    "squeeze", "getitem", "onnx", "output", "outputs", "out",
})  # fmt: skip
_STATES = frozenset({
    "state", "states", "hidden", "cell", "h", "c", "hn", "cn", "hx", "cx", "hin", "cin", "hout", "cout", "rnn", "lstm",
    "gru", "carry", "memory", "recurrent",
})  # fmt: skip
_LOGITS = frozenset({"logits", "logit"})
_UNNAMED, _OTHER = 5, 6


def choose_output(graph: Graph, given: str | None, path: Path) -> str:
    """Return the action's name: `given`, or the one output that can be it. Warn where there was a choice.

    Raises:
        SourceError: no output of that name; or none, or several, that could be the action.
        UnsupportedLayerError: none that depends on the observation; or an action of two kinds at once.
    """
    names = [output.name for output in graph.model.graph.output]
    if given is not None:
        if given not in names:
            raise SourceError(f"{path}: no output {given!r}; it has {_listed(names)}")
        return given
    moving = [name for name in names if graph.inputs_before(name)]
    if not moving:
        raise constant_action(names[0] if names else "graph.output")
    settled = [name for name in moving if not is_random(graph, name)] or moving
    possible = [name for name in settled if not _NEVER.intersection(_words(name))]
    chosen, rank = _most_likely(graph, possible)
    if not possible or (rank == _OTHER and len(names) > 1):
        candidates = possible or [name for name in settled if _LOGITS.intersection(_words(name))] or settled
        example = _choose(names, candidates[0])
        raise SourceError(f"{path}: none of its outputs is an action by its name; {example}")
    if len(chosen) > 1:
        example = _choose(names, "NAME")  # naming one would recommend it
        raise SourceError(f"{path}: several of its outputs could be the action ({_listed(chosen)}); {example}")
    _refuse_half(graph, chosen[0], possible)
    if len(names) > 1:
        others = _listed([name for name in names if name != chosen[0]])
        choice = f"{path.name}: output {chosen[0]!r} is read as the action, not {others}; output= chooses another"
        warn(choice)
    return chosen[0]


def _choose(names: Sequence[str], example: str) -> str:
    return f"it has {_listed(names)}: choose one with output={example!r}"


def _listed(names: Sequence[str]) -> str:
    """Return names for a message of one line, whatever the file calls them."""
    return ", ".join(name if name.isprintable() else repr(name) for name in names)


def constant_action(name: str) -> UnsupportedLayerError:
    """Return the error for an action that no input enters."""
    remedy = "Export the policy with the observation as its input"
    return UnsupportedLayerError(name, "constant", "the action does not depend on the observation", remedy)


def is_random(graph: Graph, name: str) -> bool:
    return any(node.op_type in RANDOM for node in graph.nodes_before(name))


def comes_from_argmax(makers: Mapping[str, NodeProto], name: str) -> bool:
    """Return whether the value is an index, or indices, made by ArgMax nodes; `makers` are the nodes by outputs."""
    for _ in range(64):
        node = makers.get(name)
        if node is None or node.op_type == "ArgMax":
            return node is not None
        if node.op_type not in _ORDER_ONLY:
            return False
        name = node.input[0]
    return False


def _most_likely(graph: Graph, possible: Sequence[str]) -> tuple[list[str], int]:
    """Return the outputs that are most likely the action, several if nothing tells them apart; and their rank."""
    discrete = [name for name in possible if comes_from_argmax(graph.makers, name)]
    ranks = {name: _rank(graph, name) for name in discrete or possible}
    best = min(ranks.values(), default=_OTHER)
    return [name for name in ranks if ranks[name] == best], 0 if discrete else best


def _rank(graph: Graph, name: str) -> int:
    """Rank how clearly the name says that it is the action: 0 most, `_UNNAMED` not at all, `_OTHER` something else."""
    words = set(_words(name))
    if words & _HARDLY:
        return _OTHER
    if "deterministic" in words:
        return 0
    if "".join(_single_words(name)) in _EXACTLY:
        return 1
    if words & _WORDS:
        return 2
    if words & _MEANS:
        return 3
    layer = set(_words(_layer_before(graph, name))) if set(_single_words(name)) <= _SAY_NOTHING else set()
    if layer & _NEVER:
        return _OTHER
    return 4 if layer & (_WORDS | _MEANS) else _UNNAMED


def _single_words(name: str) -> list[str]:
    """Return the words of a name; of `policy/ActionMean_0`: policy, action, mean."""
    if name.startswith("onnx::"):  # torch's names of what it did not name: the operator that takes it, and a number
        return []
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word.lower() for word in re.findall(r"[A-Za-z]+", spaced)]


def _words(name: str) -> list[str]:
    """Return single words, and every two neighbours as one: log_std is log, std and logstd."""
    words = _single_words(name)
    return words + [first + second for first, second in pairwise(words)]


def _layer_before(graph: Graph, name: str) -> str:
    """Return the name of the weights, or node, of the linear layer that the output is an elementwise function of."""
    for _ in range(64):
        node = graph.makers.get(name)
        if node is None:
            return ""
        if node.op_type in ("Gemm", "MatMul"):
            weights = [operand for operand in node.input if operand in graph.tensors]
            return " ".join([*weights, node.name])
        sources = {operand for operand in node.input if operand and graph.inputs_before(operand)}
        if node.op_type not in _ELEMENTWISE or len(sources) != 1:
            return ""
        name = sources.pop()
    return ""


def _refuse_half(graph: Graph, chosen: str, possible: Sequence[str]) -> None:
    """Refuse one of two outputs that hold an action's discrete and continuous parts."""
    halves = [name for name in possible if "continuous" in _words(name)]
    if halves and comes_from_argmax(graph.makers, chosen) and chosen not in halves:
        reason = f"the action has a discrete part and a continuous one ({halves[0]})"
        remedy = f"Choose one with output={halves[0]!r} or {chosen!r}"
        raise UnsupportedLayerError(chosen, "graph.output", reason, remedy)


def names_state(name: str) -> bool:
    """Return whether an input or output is called like a recurrent network's state."""
    return not _STATES.isdisjoint(_words(name))
