"""What a network keeps between its forward and its backward: see it, choose it, store it smaller."""
