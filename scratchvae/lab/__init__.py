"""The instruments: gradient variance, gradient checks, likelihoods."""
