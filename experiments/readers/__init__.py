"""What readers are good for, on real data."""
