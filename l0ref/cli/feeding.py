"""The augmentation and the teacher of a training, from their settings to the report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from l0ref import checkpoint, metrics
from l0ref.cli.networks import check_npz
from l0ref.cli.settings import Settings
from l0ref.data import Splits
from l0ref.data.augment import by_name
from l0ref.distillation import Teacher
from l0ref.errors import ArgumentError, ConfigError

OF_TEACHER = ("temperature", "teacher_weight", "teacher_sha256")
MODEL = "model.npz"


def with_checksum(settings: Settings) -> Settings:
    """Return the settings with the SHA-256 of the teacher; refuse its options without one, and another SHA-256."""
    if settings.teacher is None:
        for field in dataclasses.fields(Settings):
            if field.name in OF_TEACHER and (value := getattr(settings, field.name)) != field.default:
                raise ConfigError(
                    f"{field.name}={value!r} applies to a teacher only; give --teacher RUN, or leave it out"
                )
        return settings
    own = read_teacher(settings).checksum
    if settings.teacher_sha256 not in (None, own):
        raise ConfigError(
            f"teacher={settings.teacher!r} has the SHA-256 {own[:16]}..., not teacher_sha256="
            f"{settings.teacher_sha256!r}; restore that network, or leave teacher_sha256 out"
        )
    return dataclasses.replace(settings, teacher_sha256=own)


def read_teacher(settings: Settings) -> Teacher:
    """Return the teacher of a job; a missing or damaged file is refused."""
    place = Path(str(settings.teacher)).expanduser()
    file = place / MODEL if place.is_dir() else place
    if not file.is_file():
        raise ConfigError(
            f"teacher={settings.teacher!r} has no {MODEL}; name a folder that l0ref compress --out wrote, or its file"
        )
    check_npz("teacher", file)
    return Teacher(checkpoint.load(file), settings.temperature, settings.teacher_weight)


def build_feed(settings: Settings, data: Splits) -> dict[str, Any]:
    """Return the arguments `batch` and `teacher` of `fit` that the job has; refuse ones that do not fit the data."""
    feed: dict[str, Any] = {}
    if settings.augment:
        feed["batch"] = by_name(settings.augment)
        if len(data.train.sample_shape) != 3:
            raise ConfigError(
                f"augment={settings.augment!r} is for images, {data.name!r} has samples of shape "
                f"{data.train.sample_shape}; leave it out"
            )
    if settings.teacher is not None:
        feed["teacher"] = read_teacher(settings)
        try:
            feed["teacher"].check(data.train)
        except ArgumentError as error:
            raise ConfigError(f"teacher={settings.teacher!r}: {error}") from None
    return feed


def fed(settings: Settings, feed: dict[str, Any], data: Splits) -> dict[str, Any]:
    """Return the entry of the feed in a report: the augmentation with its sizes, the teacher with hash and errors."""
    found: dict[str, Any] = {}
    if "batch" in feed:
        found["augmentation"] = {"name": settings.augment.partition(":")[0], **dataclasses.asdict(feed["batch"])}
    if "teacher" in feed:
        teacher = feed["teacher"]
        parts = {"val": data.validation, "test": data.test}
        found["teacher"] = {
            "file": settings.teacher,
            "sha256": teacher.checksum,
            "temperature": teacher.temperature,
            "weight": teacher.weight,
            **{f"{part}_acc1": metrics.evaluate(teacher.model, each).acc1 for part, each in parts.items()},
        }
    return found
