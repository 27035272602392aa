"""Files of other tools as transcripts: told apart by content in one place, a function a format."""

from phaselens.bridges.transcripts import read_transcripts

__all__ = ["read_transcripts"]
