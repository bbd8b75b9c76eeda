"""What makes the documentation's pages and pictures."""
