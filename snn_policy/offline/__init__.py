"""Offline reinforcement learning: recorded transitions, and actors trained on nothing else."""
