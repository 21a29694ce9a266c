"""TorchScript archives (`.pt`, `.pth`, `.jit`): legged_gym's and Isaac Lab's exported policies, and others.

Neither loaded nor run: `script_program` parses the archive's text, `script_interpreter` follows it, and the functions
of torch that lie between observation and action are then called, each by itself, on random observations, one row at a
time, for a comparison with the actor.
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError, needs_extra
from snn_policy.sources.assemble import assemble
from snn_policy.sources.families import called
from snn_policy.sources.no_chain import Asked, otherwise, refuse_several
from snn_policy.sources.script_interpreter import Interpreter
from snn_policy.sources.script_program import Program, named_modules, read_program
from snn_policy.sources.script_states import declared, forward_of
from snn_policy.sources.script_values import Observed, SizeFound
from snn_policy.sources.several_results import chosen
from snn_policy.sources.torch_archive import TorchArchive
from snn_policy.sources.vecnormalize import ObservationStatistics, normalised
from snn_policy.untrusted_files import reading

ROWS, MOST_READINGS = 16, 8


def read_torchscript(
    path: Path,
    *,
    observation_shape: Sequence[int] | None = None,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
    env_id: str | None = None,
    output: str | None = None,
    name: str | None = None,
    normaliser: Sequence[ObservationStatistics] = (),
) -> Actor:
    """Read an archive of `torch.jit.save`; `load_actor` describes the arguments.

    Args:
        output: which of several results is the action: its name or its number.

    Raises:
        SourceError: damaged, too large, or a program that is none of TorchScript's.
        UnsupportedLayerError: no chain of supported layers; recurrent policies are named as such.
    """
    try:
        import torch  # noqa: F401
    except ImportError as problem:
        raise needs_extra("torch") from problem
    title = name or path.stem
    with TorchArchive(path) as archive, reading(path, "TorchScript archive"):
        program = read_program(archive)
        asked = Asked(title, observation_shape, low, high, env_id, normaliser)
        try:
            refuse_several(observation_shape)
            shape, before = normalised(normaliser, observation_shape)
            value = _followed(program, shape, output)
            actor = assemble([*before, *value.operations], observation_shape=shape, **asked.facts)
            _check(actor, value, normaliser)
        except (UnsupportedLayerError, SourceError) as refused:
            from snn_policy.sources.script_policy import quiet, read_script_graph

            choose = quiet(lambda result, node: chosen(result, node, output))
            first = refused
            return called(lambda: otherwise(first, lambda: read_script_graph(program, choose, asked)),
                          lambda: _names(program))  # fmt: skip
    return actor


def _names(program: Program) -> Iterator[str]:
    """Yield what the program's inputs, modules and weights are called."""
    yield from (argument.arg for argument in forward_of(program).args.args[1:])
    for module in named_modules(program.root):
        yield module.name
        yield from (f"{module.path}.{field}".lstrip(".") for field in module.fields)


def read_live_script(module: Any, *, name: str | None = None, **options: Any) -> Actor:
    """Read a module that `torch.jit` has scripted, traced or loaded, by way of an archive of it."""
    from snn_policy.sources.torch_hooks import compare_traced

    with TemporaryDirectory() as directory:
        path = Path(directory) / "module.pt"
        module.save(str(path))
        actor = read_torchscript(path, name=name or str(getattr(module, "original_name", "module")), **options)
    compare_traced(module, actor, options.get("output"), options.get("normaliser", ()))
    return actor


def _followed(program: Program, shape: tuple[int, ...] | None, output: str | None) -> Observed:
    """Return the action, once the inputs' sizes and what outlives a decision are known."""
    sizes, written = dict[str, int](), frozenset[Any]()
    names = _inputs(program)
    for _ in range(MOST_READINGS + len(names)):
        reader = Interpreter(program, written)
        arguments = [Observed(name, (1, *(shape or (sizes.get(name),)))) for name in names]
        try:
            result = reader.run(arguments)
        except SizeFound as found:
            sizes[found.root] = found.size
            continue
        if reader.memory.written <= written:
            action, lost = _action(result, reader.returned, output), reader.memory.lost(written)
            if lost is not None:
                raise lost
            return action
        written = frozenset(reader.memory.written)
    raise SourceError("its program cannot be followed")


def _inputs(program: Program) -> list[str]:
    forward = forward_of(program)
    required = forward.args.args[1 : len(forward.args.args) - len(forward.args.defaults)]
    for argument in required:
        kind = declared(argument)
        if kind != "Tensor":
            remedy = "Export a module whose forward takes one tensor"
            what = f"it takes a {kind}" + ", of several inputs" * (len(required) > 1)
            raise UnsupportedLayerError("forward", argument.arg, what, remedy)
    if not required:
        raise SourceError("its forward takes no observation")
    return [argument.arg for argument in required]


def _action(result: Any, node: ast.expr | None, output: str | None) -> Observed:
    """Return the action, which the observation must enter."""
    action = chosen(result, node, output)
    if not isinstance(action, Observed):
        raise UnsupportedLayerError("forward", "constant", "its action does not depend on the observation", "")
    return action


def _check(actor: Actor, value: Observed, normaliser: Sequence[ObservationStatistics]) -> None:
    """Compare with what torch's functions, called one by one, make of random observations, one row at a time."""
    import torch

    rng, shape = np.random.default_rng(0), actor.observation_shape
    drawn = rng.standard_normal((ROWS, *shape)) * np.resize((0.1, 1.0, 3.0), ROWS).reshape(-1, *[1] * len(shape))
    if actor.normaliser is not None:
        drawn = drawn * actor.normaliser.scale + actor.normaliser.mean
    observations = drawn.astype(np.float32)
    given = observations
    for statistics in normaliser:
        given = statistics.fitted(shape)(given).astype(np.float32)
    with torch.no_grad():
        own = np.stack([_computed(value, torch.as_tensor(row[None])).double().numpy().ravel() for row in given])
    actions, _ = actor.step(observations, ())
    read = np.asarray(actions, np.float64).reshape(ROWS, -1)
    if own.shape == read.shape and np.isfinite(own).all():
        if actor.discrete:
            agree = float(np.mean(own == read)) > 0.9
        else:
            own = np.clip(own, actor.low, actor.high)
            agree = bool(np.abs(own - read).max() <= 1e-4 * (1 + np.abs(own).max()))
        if agree:
            return
    reason = "torch's functions, called one by one, make other actions than its layers, as read"
    raise UnsupportedLayerError("forward", "TorchScript", reason, "Export one chain of layers in evaluation mode")


def _computed(value: Observed, observation: Any) -> Any:
    """Compute the value of one observation (1, *shape): every call on the way to it, in order, by torch."""
    import torch

    results: dict[int, Any] = {}
    waiting = [value]
    while waiting:
        last = waiting[-1]
        if last.call is None:
            results[id(last)] = observation
        missing = [before for before in _observed(last) if id(before) not in results]
        waiting += missing
        if missing:
            continue
        if last.call is not None and id(last) not in results:
            arguments = [_torch(argument, results) for argument in last.call.arguments]
            keywords = {key: _torch(argument, results) for key, argument in last.call.keywords.items()}
            results[id(last)] = getattr(torch.ops.aten, last.call.name)(*arguments, **keywords)
        waiting.pop()
    return results[id(value)]


def _observed(value: Observed) -> list[Observed]:
    return (
        [] if value.call is None else [argument for argument in value.call.arguments if isinstance(argument, Observed)]
    )


def _torch(argument: Any, results: dict[int, Any]) -> Any:
    import torch

    if isinstance(argument, Observed):
        return results[id(argument)]
    if isinstance(argument, np.ndarray | np.generic):
        array = np.asarray(argument)
        return torch.as_tensor(np.array(array, np.float32) if array.dtype.kind == "f" else np.array(array))
    return argument
