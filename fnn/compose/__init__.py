"""Compositions of layers, which are layers themselves."""
