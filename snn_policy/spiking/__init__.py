"""Spiking networks as data and pure functions: neurons, codings, CRPI, spike calibration, state."""
