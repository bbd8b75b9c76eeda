"""Heads: a last layer and its loss in one."""
