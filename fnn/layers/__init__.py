"""The layers: each one a forward with its backward right under it."""
