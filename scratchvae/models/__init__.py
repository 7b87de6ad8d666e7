"""The plain autoencoder and the variational one."""
