"""A policy as a C++ class and as an Arduino or PlatformIO library: both compile strictly and act as the policy does."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from snn_policy import SpikingPolicy, convert
from snn_policy.cli import main
from tests.actors import random_actor, walk

WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wold-style-cast", "-Werror")
STANDARDS = [f"{compiler} -std={standard}" for compiler in ("g++", "clang++") for standard in ("c++11", "c++20")]

CONTROLLER = """
#include <cstdio>
#include <cstring>
#include <vector>
#include "policy.hpp"

int main() {
    static snn_walker::Policy policy;
    static_assert(snn_walker::Policy::inputs == 11 && snn_walker::Policy::actions == 3, "sizes");
    std::vector<float> obs(11), action(3);
    for (;;) {
        for (float &value : obs) {
            if (std::scanf("%f", &value) != 1) {
                std::printf("decisions %lld\\n", static_cast<long long>(policy.counts().decisions));
                policy.reset();
                return policy.counts().decisions == 0 ? 0 : 1;
            }
        }
        @decide@
        std::printf("%.9g %.9g %.9g\\n", double(action[0]), double(action[1]), double(action[2]));
    }
}
"""
POINTERS = "if (!policy.act(obs.data(), action.data())) { return 2; }"
SPANS = """if (!policy.act(obs, action)) { return 2; }
        if (policy.act(std::span<const float>(obs).first(10), action)) { return 3; }
        if (policy.act(obs, std::span<float>(action).first(2))) { return 4; }"""

ARDUINO = """
#include <cstdio>
static unsigned long now = 0;
static inline unsigned long millis() { return now += 7; }
struct Port {
    void begin(unsigned long) {}
    void print(float value, int digits) { std::printf("%.*f", digits, static_cast<double>(value)); }
    void print(const char *text) { std::printf("%s", text); }
};
static Port Serial;
"""


def need(*commands: str) -> None:
    missing = [command for command in commands if not shutil.which(command)]
    if missing:
        pytest.skip(f"not installed: {' '.join(missing)}")


def compiled(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def policy() -> SpikingPolicy:
    return convert(random_actor(widths=(24, 20)), walk(200))


@pytest.mark.parametrize("standard", STANDARDS)
def test_the_class_compiles_strictly_and_acts_as_the_policy(
    standard: str, policy: SpikingPolicy, tmp_path: Path
) -> None:
    compiler = standard.split()
    need(compiler[0], "cc")
    policy.export_c(tmp_path, prefix="walker", verify=False)
    spans = "c++20" in standard
    (tmp_path / "controller.cpp").write_text(CONTROLLER.replace("@decide@", SPANS if spans else POINTERS))
    subprocess.run(["cc", "-O2", "-ffp-contract=off", "-c", "policy.c", "-o", "policy.o"], cwd=tmp_path, check=True)
    compiled([*compiler, *WARNINGS, str(tmp_path / "controller.cpp"), str(tmp_path / "policy.o"),
              "-o", str(tmp_path / "run")])  # fmt: skip
    stream = walk(50, seed=1)
    text = "\n".join(" ".join(f"{value:.9g}" for value in obs) for obs in stream)
    done = subprocess.run([str(tmp_path / "run")], input=text, capture_output=True, text=True)
    assert done.returncode == 0
    *lines, counted = done.stdout.splitlines()
    assert counted == "decisions 50"
    policy.reset()
    expected = np.array([policy.act(obs) for obs in stream])
    assert np.array_equal(np.array([line.split() for line in lines], np.float32), expected)


def test_two_policies_live_in_one_program(policy: SpikingPolicy, tmp_path: Path) -> None:
    need("g++", "cc")
    for prefix in ("left", "right"):
        policy.export_c(tmp_path / prefix, prefix=prefix, verify=False)
        compiled(["cc", "-c", str(tmp_path / prefix / "policy.c"), "-o", str(tmp_path / f"{prefix}.o")])
    (tmp_path / "both.cpp").write_text("""
#include "left/policy.hpp"
#include "right/policy.hpp"
int main() { static snn_left::Policy left; static snn_right::Policy right; left.reset(); right.reset(); return 0; }
""")
    compiled(["g++", "-std=c++11", *WARNINGS, *(str(tmp_path / name) for name in ("both.cpp", "left.o", "right.o")),
              "-o", str(tmp_path / "both")])  # fmt: skip
    assert subprocess.run([str(tmp_path / "both")]).returncode == 0


def test_the_arduino_library_is_laid_out_as_its_tools_expect(policy: SpikingPolicy, tmp_path: Path) -> None:
    made = policy.export_c(tmp_path, prefix="walker", layout="arduino", verify=False)
    assert sorted(file.relative_to(tmp_path).as_posix() for file in made.files) == [
        "examples/ControlLoop/ControlLoop.ino", "library.json", "library.properties",
        "src/snn_walker.c", "src/snn_walker.h", "src/snn_walker.hpp",
    ]  # fmt: skip
    properties = dict(line.split("=", 1) for line in (tmp_path / "library.properties").read_text().splitlines())
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url",
            "architectures"} <= properties.keys()  # fmt: skip
    assert properties["name"] == "snn_walker"
    assert (tmp_path / "src" / properties["includes"]).is_file()
    manifest = json.loads((tmp_path / "library.json").read_text())
    assert (manifest["name"], manifest["build"]["flags"]) == ("snn_walker", ["-ffp-contract=off"])
    assert (tmp_path / "src" / manifest["headers"]).is_file()


def test_what_the_arduino_library_decides_is_verified(policy: SpikingPolicy, tmp_path: Path) -> None:
    need("cc")
    assert policy.export_c(tmp_path, layout="arduino", observations=walk(1_000)).verified == 1_000


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("prefix", ["walker", "policy", "string"])
def test_the_sketch_runs_on_a_board_that_is_a_stub(
    compiler: str, prefix: str, policy: SpikingPolicy, tmp_path: Path
) -> None:
    need(compiler, "cc")
    policy.export_c(tmp_path, prefix=prefix, layout="arduino", verify=False)
    (tmp_path / "Arduino.h").write_text(ARDUINO)
    sketch = tmp_path / "examples" / "ControlLoop" / "ControlLoop.ino"
    (tmp_path / "main.cpp").write_text(
        f'#include <Arduino.h>\n#include "{sketch}"\nint main() {{ setup(); for (int i = 0; i < 9; i++) loop(); }}\n'
    )
    source, include = str(tmp_path / "src" / f"snn_{prefix}.c"), [f"-I{tmp_path}", f"-I{tmp_path / 'src'}"]
    compiled(["cc", "-std=gnu11", "-c", source, *include, "-o", str(tmp_path / "policy.o")])
    compiled([compiler, "-std=c++11", *WARNINGS, *include, str(tmp_path / "main.cpp"), str(tmp_path / "policy.o"),
              "-o", str(tmp_path / "run")])  # fmt: skip
    printed = subprocess.run([str(tmp_path / "run")], capture_output=True, text=True, check=True).stdout
    policy.reset()
    expected = [policy.act(np.zeros(11, np.float32)) for _ in range(4)]  # 70 ms: decisions after 0, 20, 40 and 60
    found = [[float(value) for value in line.split()] for line in printed.splitlines()]
    assert found == pytest.approx(np.array(expected), abs=1e-4)


@pytest.mark.parametrize("layout", ["", "Arduino", "cmake"])
def test_another_layout_is_refused(layout: str, policy: SpikingPolicy, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"layout '{layout}': expected plain or arduino"):
        policy.export_c(tmp_path, layout=layout)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["*/ int x; /*", "a\nurl=http://elsewhere\n", '", "scripts": "rm'])
def test_an_actors_name_cannot_add_to_the_librarys_files(name: str, tmp_path: Path) -> None:
    policy = convert(random_actor(widths=(8,)), walk(60))
    policy.actor.name = name
    policy.export_c(tmp_path, layout="arduino", verify=False)
    assert len((tmp_path / "library.properties").read_text().splitlines()) == 10
    assert set(json.loads((tmp_path / "library.json").read_text())) == {
        "name", "version", "description", "frameworks", "platforms", "headers", "build",
    }  # fmt: skip
    assert "int x" not in (tmp_path / "src" / "snn_policy.h").read_text().split("*/")[1]


def test_the_command_writes_the_library(
    policy: SpikingPolicy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy.save(tmp_path / "bundle")
    command = ["export", str(tmp_path / "bundle"), "--arduino", "--prefix", "walker", "--out", str(tmp_path / "lib")]
    assert main(command) == 2
    assert "give --c, too" in capsys.readouterr().err
    assert main([*command, "--c"]) == 0
    assert "src/snn_walker.hpp" in capsys.readouterr().out
    assert (tmp_path / "lib" / "library.properties").is_file()
