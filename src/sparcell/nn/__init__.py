"""Multilayer perceptrons, decoders and the network."""
