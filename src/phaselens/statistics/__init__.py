"""Statistics on plain arrays: NumPy and SciPy only, every draw from a generator that the caller passes in."""
