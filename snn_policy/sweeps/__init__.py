"""Grids of policies × settings × environments × seeds: run so that they survive, and read as tables and pictures."""
