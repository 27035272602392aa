"""The record: what was observed, its schema, and the only opener of its files. Needs no model library."""

from phaselens.trace.schema import SCHEMA_VERSION, TABLES, Column
from phaselens.trace.store import atomic_write, is_valid, read_trace, write_trace
from phaselens.trace.trace import Trace
