"""What the two endpoints that listen have in common: the recordings sent, and the texts that come back."""
