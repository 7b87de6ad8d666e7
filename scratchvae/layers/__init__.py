"""Dense layers, activations and stacks of them, each a forward and backward pair."""
