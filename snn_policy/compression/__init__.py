"""A sparse, quiet actor by distillation of a given one on its own states: the one place that trains a given actor."""
