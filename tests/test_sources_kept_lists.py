"""Lists of past observations that start alike are memories, entry by entry, however a program shifts them."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from snn_policy import load_actor  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Inserted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frames: list[Tensor] = [torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(1, 4)]
        self.out = nn.Linear(16, 2)

    def whole(self, obs: Tensor) -> Tensor:
        return torch.cat([obs, self.frames[0], self.frames[1], self.frames[2]], -1)

    def forward(self, obs: Tensor) -> Tensor:
        whole = self.whole(obs)
        self.frames.insert(0, obs)
        self.frames.pop()
        return self.out(torch.tanh(whole))


class Shifted(Inserted):
    def forward(self, obs: Tensor) -> Tensor:
        whole = self.whole(obs)
        self.frames[2] = self.frames[1]
        self.frames[1] = self.frames[0]
        self.frames[0] = obs
        return self.out(torch.tanh(whole))


class Appended(Inserted):
    def forward(self, obs: Tensor) -> Tensor:
        whole = self.whole(obs)
        self.frames.append(obs)
        self.frames.pop(0)
        return self.out(torch.tanh(whole))


class OnlyTheOldest(Inserted):
    """One entry starts elsewhere, and only that is read."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = [torch.zeros(1, 4), torch.zeros(1, 4), torch.ones(1, 4)]

    def forward(self, obs: Tensor) -> Tensor:
        oldest = self.frames[2]
        self.frames.insert(0, obs)
        self.frames.pop()
        return self.out(torch.tanh(torch.cat([obs, oldest, obs, oldest], -1)))


@pytest.mark.parametrize("kind", [Inserted, Shifted, Appended, OnlyTheOldest])
def test_it_acts_as_its_program_from_the_start_and_on(kind: type[nn.Module], tmp_path: Path) -> None:
    module = kind().eval()
    torch.jit.script(module).save(str(tmp_path / "p.pt"))  # pyright: ignore[reportAttributeAccessIssue]
    own, obs = torch.jit.load(str(tmp_path / "p.pt")), torch.randn(200, 1, 4)
    expected = np.array([own(row).detach().numpy() for row in obs])
    for source in (tmp_path / "p.pt", kind().eval()):
        actor = load_actor(source, observation_shape=(4,))
        assert actor.recurrent
        actor.reset(num_envs=1)
        acted = np.array([actor.act(row.numpy()) for row in obs])
        assert abs(acted - expected).max() <= 1e-5 * abs(expected).max()
