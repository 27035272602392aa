"""Files of other tools as transcripts: told apart by content in one place, a function a format."""

from phaselens.bridges.foreign_transcripts import FOREIGN, read_transcripts
