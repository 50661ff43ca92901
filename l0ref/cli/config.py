"""A file with settings, in TOML, or the config.json of a result: one flat table, and no code to run."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

from l0ref.archive.strict_json import parse_json, read_file
from l0ref.cli.networks import no_code
from l0ref.errors import CheckpointError, ConfigError

MAX_CONFIG = 2**14  # bytes


def read_config(path: str, *, named: Sequence[str] = (), unread: Sequence[str] = ()) -> dict[str, Any]:
    """Return the settings of a TOML file: the flags' names as keys, with "-" or "_", in one flat table.

    The config.json of a result is accepted too. A file may not name code to run, as data="module:function" does, unless
    the same value was also given by hand, in `named`, or the setting is in `unread` and never used.
    """
    name = f"config={path!r}"
    try:
        data = read_file(path, name=name, max_bytes=MAX_CONFIG)
        if path.endswith(".json"):
            return _checked_table(path, parse_json(data), (*named, *unread))
        return _checked_table(path, tomllib.loads(data.decode("utf-8")), (*named, *unread))
    except CheckpointError as error:
        raise ConfigError(str(error)) from None
    except (RecursionError, MemoryError):
        raise ConfigError(f"{name} is nested too deeply; write each setting as name = value") from None
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        if "digits" in str(error):  # Python reads no whole number of more than 4300
            raise ConfigError(f"{name} holds a number of too many digits; correct the file") from None
        kind = "strict JSON" if path.endswith(".json") else "TOML"
        raise ConfigError(f"{name} is not {kind}: {str(error)[:200]}; correct the file") from None


def _checked_table(path: str, table: Any, named: Sequence[str]) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError(f"config={path!r} holds {type(table).__name__}, expected settings by name")
    for key, value in table.items():
        if isinstance(value, dict):
            raise ConfigError(
                f"config={path!r} has a table [{key}]; write each setting as name = value, outside of tables"
            )
    return no_code(path, {key.replace("-", "_"): value for key, value in table.items()}, named)
