"""Engines: what hands units of work to processes and machines, and says what happened."""
