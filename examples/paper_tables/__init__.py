"""The two tables of the calibration paper, trained and measured here: `python -m examples.paper_tables --help`."""
