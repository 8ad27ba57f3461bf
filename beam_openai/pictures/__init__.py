"""What the image endpoints have in common: what each family of models takes, the images sent, and those that come back."""

FILE_TYPES = frozenset({"png", "jpg", "jpeg", "webp", "gif"})
"""What the names of images end with."""
