"""How spiking networks become ONNX graphs, C, TorchScript and NIR graphs.

`tracing` is an array type whose operations append nodes instead of computing, `namespace` its array-API functions, so
that the network's own code writes the graph; `model` turns what was traced into a file. `graphs` traces the two graphs
of a network, with the formulations that only graphs need in `sigma_delta`, `timestep` and `costs`; `description` is
what a graph says about itself. `ann` is the actor's own graph, without a needless node thanks to `peephole` and
`folding`: what decisions are timed against.

Other forms: `c_source` (the compiled core's own files), `torchscript` (the networks' own code, traced by torch), and
`nir_graph` (IF networks as nodes of the Neuromorphic Intermediate Representation).
"""
