"""Grids of actors × settings × environments × seeds that go on where they were stopped. Start with `sweep`."""
