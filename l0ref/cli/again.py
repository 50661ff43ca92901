"""The command line that repeats a job, from the settings in its report."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from l0ref.cli.settings import Settings, resolve
from l0ref.errors import L0RefError


def command_of(config: Mapping[str, Any]) -> str:
    """Return `l0ref compress` with the flags whose values differ from the defaults.

    If this version does not know a setting, a comment says so instead: the command would do something else.

    >>> command_of({"data": "digits", "model": "digits_mlp", "amount": 0.5})
    'l0ref compress --amount 0.5'
    """
    try:
        settings = resolve(config)
        plain = resolve({name: config.get(name) for name in ("data", "model")})
    except L0RefError as error:
        return f"# no command of this version repeats the run: {error}"
    words = ["l0ref", "compress"]
    for field in dataclasses.fields(Settings):
        value = getattr(settings, field.name)
        is_given = field.name in ("data", "model") and value != getattr(resolve(), field.name)
        if value is None or (value == getattr(plain, field.name) and not is_given):
            continue
        text = (",".join(map(_word, value)) or "no") if isinstance(value, tuple) else _word(value)
        words += [f"--{field.name.replace('_', '-')}", *(text.split(" ", 1) if field.name == "model" else [text])]
    return shlex.join(words)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
