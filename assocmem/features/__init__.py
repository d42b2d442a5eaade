"""From keys to features: Hadamard projection, CReLU, noisy keys, with their kernels."""
