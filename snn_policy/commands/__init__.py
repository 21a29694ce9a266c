"""The commands of `snn-policy`, one file per group; `cli.py` registers them.

Nothing heavy (numpy, gymnasium, torch) is imported before a command runs, so that `--help` is quick.
"""
