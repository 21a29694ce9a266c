"""The parts of the policy server; `snn_policy.serving.serve` is its entry, docs/serving.md its protocol."""
