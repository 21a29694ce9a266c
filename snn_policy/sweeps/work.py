"""What a worker does, wherever it runs: convert an actor, or run a batch of episodes. Data in, data out.

The answer depends on the job and the content alone: environments are made anew for every batch, and every episode
starts from a reset, so that neither the order of the batches nor what a process did before can be seen in a result.
"""

import errno
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from snn_policy.actor import Actor
from snn_policy.calibration.pilots import asked_of_pilots
from snn_policy.convert import convert
from snn_policy.environments import make_environments
from snn_policy.evaluation.episodes import CostRecorder, run_episodes
from snn_policy.observations import environment_name
from snn_policy.protocol import Policy
from snn_policy.sweeps.batches import batch_record, rows_of
from snn_policy.sweeps.cells import Protocol, Seeds
from snn_policy.sweeps.contents import CODE, Files, actor_of, policy_files, policy_of
from snn_policy.sweeps.places import Place
from snn_policy.sweeps.settings import Setting
from snn_policy.sweeps.source_code import Code, CodeSeen, shown

ROOM_ERRORS = (errno.ENOSPC, errno.EDQUOT)
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
"""A worker's environment: one core each, and sums in the same order everywhere."""


@dataclass(frozen=True, eq=False)
class Job:
    """Hold what one worker is to do at a time.

    Attributes:
        kind: "convert": make a policy of an actor; "episodes": run a batch with a policy, or with an actor.
        made_of: the key of the policy, or the digest of the actor, that the content belongs to.
        setting, engine: of the conversion; None where the actor itself acts.
        versions: that the cell records; code: digests of the driver's source code; other ones here are refused.
        seeds: of the batch.
    """

    kind: Literal["convert", "episodes"]
    name: str
    made_of: str
    setting: Setting | None
    engine: str | None
    place: Place
    protocol: Protocol
    versions: dict[str, str]
    seeds: Seeds | None = None
    code: Code = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Hold why a job cannot be done; `final`: nor can any other here."""

    reason: str
    final: bool = False


class Performer:
    """Do jobs in one process; the last policy and the last recording are kept for the next job."""

    def __init__(self) -> None:
        self._policy: tuple[str, Policy] | None = None
        self._recording: tuple[Any, Any] | None = None
        self._code = CodeSeen()

    def perform(self, job: Job, content: bytes | Files) -> Any:
        """Return a policy's files or a batch's record; a `Failure` where there is no way."""
        compressed = job.setting is not None and job.setting.compression is not None
        try:
            _check_versions(job, job.place.versions(compressed))
            self._check_code(job)
            return self._convert(job, content) if job.kind == "convert" else self._episodes(job, content)
        except OSError as error:
            return Failure(_line(error), final=error.errno in ROOM_ERRORS)
        except VersionError as error:
            return Failure(_line(error), final=True)
        except Exception as error:  # whatever an environment's own code raises must not end the sweep
            return Failure(_line(error))

    def _check_code(self, job: Job) -> None:
        """Refuse a job of a driver with other code than was here when this process first met the environment."""
        here = self._code.at(job.place)
        if job.code and here != job.code:
            raise VersionError(
                f"a worker has other source code ({shown(here)}) than the sweep began with ({shown(job.code)}): edited "
                "meanwhile, or another one on its machine; what is finished is kept: run the same command again"
            )

    def _convert(self, job: Job, content: Any) -> Files:
        assert job.setting is not None
        actor = actor_of(content, job.name)
        if not job.place.options and ":" not in job.place.id:
            actor = replace(actor, env_id=job.place.id)
        settings, source, made_of = job.setting.neuron, job.place.source, job.made_of
        if job.setting.compression is not None:
            actor = self._student(actor, job)
        else:
            made_of = ""
        observations = self._recorded(actor, job, (made_of, content))
        env = source if asked_of_pilots(settings) else None
        policy = convert(actor, observations, neuron=settings, engine=job.engine or "auto", env=env)
        policy.card[CODE] = job.code
        return policy_files(policy)

    def _student(self, actor: Actor, job: Job) -> Actor:
        from snn_policy.compression.compress import compress

        assert job.setting is not None
        wanted = job.setting.compression
        assert wanted is not None
        return compress(
            actor, job.place.source, target=wanted.target, steps=wanted.steps, seed=wanted.seed, block=wanted.block,
            count=wanted.count, tolerance=wanted.tolerance,
        )  # fmt: skip

    def _recorded(self, actor: Actor, job: Job, of: Any) -> Any:
        """Return the recording that thresholds are set by; the last one again where it is the same."""
        wanted = (of, job.place, job.protocol.recording)
        if self._recording is None or self._recording[0] != wanted:
            steps, seed = job.protocol.recording_steps, job.protocol.recording_seed
            self._recording = wanted, actor.collect(job.place.source, steps=steps, seed=seed)
        return self._recording[1]

    def _episodes(self, job: Job, content: Any) -> dict[str, Any]:
        assert job.seeds is not None
        if self._policy is None or self._policy[0] != job.made_of:
            is_actor = isinstance(content, bytes)
            policy = actor_of(content, job.name) if is_actor else policy_of(content, job.engine or "auto")
            self._policy = job.made_of, policy
        policy = self._policy[1]
        envs = make_environments(job.place.source, policy, rows_of(job.seeds))
        try:
            recorder, numbers = CostRecorder(policy, envs), iter(range(job.seeds.count))
            finished = run_episodes(recorder, envs, job.seeds.first, lambda: next(numbers, None), lambda: None)
            return batch_record(environment_name(envs[0]), finished, recorder.totals())
        finally:
            for env in envs:
                env.close()


class VersionError(ValueError):
    """Report a worker with other versions, or other code, than the sweep records."""


def _check_versions(job: Job, here: dict[str, str]) -> None:
    for name in sorted(job.versions.keys() | here.keys()):
        wanted, found = job.versions.get(name), here.get(name)
        if wanted != found:
            raise VersionError(
                f"a worker has {name} {found or '(missing)'} where the sweep records {wanted or 'none'}; "
                "install the same versions everywhere"
            )


def _line(error: Exception) -> str:
    """Return an error in one line."""
    said = " ".join(str(error).split())
    known = isinstance(error, ValueError | OSError | ImportError) and said
    return said if known else f"{type(error).__name__}: {said}"
