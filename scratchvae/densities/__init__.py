"""Densities: log-density, score, entropy, KL and sampling, each with its derivatives."""
