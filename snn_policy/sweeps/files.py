"""The files of a sweep's directory: their names, their form, and how large one may be."""

from snn_policy.untrusted_files import MEGABYTE

FORMAT = 1
SWEEP_FILE, CELLS, BATCHES, POLICIES = "sweep.json", "cells", "batches", "policies"
LARGEST = 64 * MEGABYTE
"""Of one file. A cell of 100,000 episodes, the most that one may have, takes a tenth of it."""
