"""Plain values as TOML, for the declaration of a study."""

from collections.abc import Mapping
from typing import Any


def toml_text(values: Mapping[str, Any]) -> str:
    """Plain values as TOML: scalars and lists first, then tables, then lists of tables; keys in their order."""
    plain, tables = [], []
    for key, value in values.items():
        if isinstance(value, Mapping):
            tables.append(f"[{key}]\n" + toml_text(value))
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            tables += [f"[[{key}]]\n" + "".join(f"{k} = {_toml_value(v)}\n" for k, v in row.items()) for row in value]
        else:
            plain.append(f"{key} = {_toml_value(value)}\n")
    return "".join(plain) + "".join("\n" + table for table in tables)


def _toml_value(value: Any) -> str:
    """One TOML value; tables inside a list of tables are written inline."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in escaped) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml_value(str(k))} = {_toml_value(v)}" for k, v in value.items()) + "}"
    return repr(value)
