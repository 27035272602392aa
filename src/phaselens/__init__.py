"""phaselens: measure the internal dynamics of decoder-only language models while they generate."""

__version__ = "0.1.0"
