"""What a network is and does, told from its layers by shapes alone."""
