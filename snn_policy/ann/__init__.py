"""What an `Actor` is made of: layers, convolutions, activations, heads."""
