"""The numbers of Song et al., "Calibrating the Converted Spiking Reinforcement Learning", Tables 1 and 2, as printed.

D4RL normalised scores of the v2 environments, after one million steps: mean and spread. Left out where the paper
prints none (ReLU on Ant), and where the copy at hand lacks it: Table 1's last column, I = 3, and some spreads.
"""

from typing import NamedTuple

QUALITIES = ("expert", "medium-expert", "medium", "medium-replay")
TASKS = ("Hopper", "HalfCheetah", "Walker2d", "Ant")
TABLE_1_COLUMNS = ("ReLU", "QCFS", "direct", "I=0", "I=1", "I=2")
TABLE_2_COLUMNS = ("I=0", "I=1", "I=2", "I=3", "adaptive")
MISPRINTS = {("medium-replay", "Hopper", "I=2"): "printed as 229.68, read here as 29.68"}


class Score(NamedTuple):
    """A mean and its spread, None where it is not legible."""

    mean: float
    spread: float | None


_TABLE_1 = """
expert Hopper 112.2±0.2 112.1±1.3 110.7±1.4 111.8±0.4 110.2±3.0 112.3±0.2
expert HalfCheetah 105.7±1.9 94.0±3.2 59.5±11.6 89.9±3.9 87.2±9.4 89.1±5.4
expert Walker2d 105.7±2.7 91.5±15.8 105.6±1.1 98.5±9.4 102.7±4.7 103.7±3.8
expert Ant - 72.1±21.1 59.9±8.8 63.1±14.6 81.7±22.8 75.4±23.2
medium-expert Hopper 112.2±0.2 95.4±26.6 112.0±0.3 94.6±16.1 101.5± 103.3±
medium-expert HalfCheetah 97.9±4.4 56.8±7.9 39.5±3.2 45.8±9.2 64.6±9.0 58.4±4.1
medium-expert Walker2d 101.1±9.3 94.1±11.5 83.7±19.3 96.7±9.2 105.9±2.0 101.9±2.3
medium-expert Ant - 111.3±10.7 107.4±12.8 128.7±6.6 117.5± 112.2±
medium Hopper 99.5±1.0 99.6±0.1 96.8±3.4 100.0±0.2 99.8±0.2 99.7±0.9
medium HalfCheetah 42.8± 42.3±0.4 42.1±0.3 40.8±0.2 42.5±0.4 42.4±0.5
medium Walker2d 79.7±1.8 76.5±3.2 76.7±6.6 72.6±6.9 76.2±2.11 79.8±0.8
medium Ant - 119.6±3.6 108.8±6.9 120.3±5.2 120.5± 122.4±1.1
medium-replay Hopper 31.4±3.0 31.1±1.9 30.6±2.8 32.5±3.9 31.9±3.1 34.1±6.0
medium-replay HalfCheetah 43.3±0.5 42.1±0.4 40.4±0.1 33.7±2.3 41.3±0.3 41.1±0.3
medium-replay Walker2d 25.2±5.1 23.8±6.7 27.4±4.0 21.0±5.5 22.4±5.9 24.9±7.4
medium-replay Ant - 75.9±4.1 77.5±2.4 75.2±6.3 74.5±1.9 76.9±2.9
"""

_TABLE_2 = """
expert Hopper 114.49±0.70 110.8±1.90 109.81±4.86 110.75±2.83 112.19±0.33
expert HalfCheetah 64.93±16.46 91.88±3.00 84.00±8.70 88.95±7.99 86.40±11.07
expert Walker2d 97.53±13.58 101.25±4.34 101.11±3.93 101.71±4.18 99.41±3.90
expert Ant 77.56±15.63 74.46±16.26 82.23±9.63 87.79±9.79 89.44±11.48
medium-expert Hopper 83.18±17.72 88.22±28.29 91.19±24.00 89.10±27.90 95.07±21.34
medium-expert HalfCheetah 46.08±9.49 59.62±5.06 60.53±5.17 60.79±6.12 60.59±4.84
medium-expert Walker2d 95.22±12.31 99.23±4.81 95.90±7.85 91.68±10.79 92.96±12.67
medium-expert Ant 117.64±13.88 122.66±14.70 104.80±8.05 105.22±10.51 116.11±7.89
medium Hopper 98.57±2.76 99.70±0.18 99.79±0.20 99.68±0.22 99.08±1.48
medium HalfCheetah 40.65±0.22 42.40±0.47 42.36±0.44 42.31±0.53 42.12±0.53
medium Walker2d 72.85±6.61 78.95±2.63 75.85±3.34 77.13±2.91 74.00±3.50
medium Ant 121.46±1.98 122.22±0.86 120.50±3.01 120.48±2.85 122.17±1.21
medium-replay Hopper 23.82±4.29 29.78±3.15 29.68±3.44 29.25±2.60 29.81±2.46
medium-replay HalfCheetah 35.85±1.61 41.23±0.41 41.28±0.32 41.29±0.50 40.66±0.34
medium-replay Walker2d 17.86±4.09 26.61±8.98 24.47±9.13 26.21±12.38 26.03±8.04
medium-replay Ant 77.32±4.26 77.69±2.18 76.48±3.78 76.48±3.89 79.74±1.95
"""

Printed = dict[tuple[str, str, str], Score]
"""By quality, task and column."""


def _read(text: str, columns: tuple[str, ...]) -> Printed:
    printed = {}
    for line in text.strip().splitlines():
        quality, task, *scores = line.split()
        for column, score in zip(columns, scores, strict=True):
            if score != "-":
                mean, spread = score.split("±")
                printed[quality, task, column] = Score(float(mean), float(spread) if spread else None)
    return printed


TABLE_1: Printed = _read(_TABLE_1, TABLE_1_COLUMNS)
TABLE_2: Printed = _read(_TABLE_2, TABLE_2_COLUMNS)
