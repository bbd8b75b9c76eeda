"""Readers: everything that one backward pass can tell, each a small function of the factors."""
