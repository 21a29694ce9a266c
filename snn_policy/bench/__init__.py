"""Time decisions as ratios to the ANN in ONNX Runtime: one process, one thread, everything interleaved."""
