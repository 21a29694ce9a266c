"""Policies in environments: episodes, results, statistics, workers. Start with `episodes.run_episodes`."""
