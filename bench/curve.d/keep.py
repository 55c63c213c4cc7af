# SPDX-License-Identifier: MIT
"""The output folder: each finished point is a file of its own, written atomically."""
import fcntl
import json
import os
import time

from points import BadResults, Name, Point, parse_benchmark_json


class Refusal(Exception):
    """The request would mix results that are not comparable."""


def write_whole(path: str, text: str) -> None:
    part = path + ".part"
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(part, path)


class Folder:
    """Points that were measured with one program, on one machine, with the same settings."""

    def __init__(self, path: str):
        self.path = path
        self.points_path = os.path.join(path, "points")
        self.lock = None

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def open(self, conditions: dict, fresh: bool) -> None:
        """@conditions: the values that must be the same for all points, by name."""
        if fresh and os.path.exists(self.path):
            os.rename(self.path, self.path + time.strftime(".until-%Y%m%d-%H%M%S"))
        os.makedirs(self.points_path, exist_ok=True)
        self.take_lock()
        settings = self.file("settings.json")
        if os.path.exists(settings):
            self.compare(settings, conditions)
        else:
            write_whole(settings, json.dumps(conditions, indent=1) + "\n")

    def take_lock(self) -> None:
        self.lock = open(self.file("lock"), "w", encoding="utf-8")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refusal(f"{self.path}: another bench/curve measures into this folder; "
                          "wait for it, or give another --out") from None

    def compare(self, settings: str, conditions: dict) -> None:
        with open(settings, encoding="utf-8") as file:
            try:
                kept = json.load(file)
            except ValueError:
                kept = {}
        changed = [f"{key} was {kept.get(key)}, is {conditions.get(key)}"
                   for key in sorted({*kept, *conditions}) if kept.get(key) != conditions.get(key)]
        if changed:
            raise Refusal(f"{self.path} has points of other conditions ({'; '.join(changed)}), and "
                          "figures of both do not belong into one picture.  Give another --out, "
                          "or --fresh, which puts the old folder aside")

    def point_path(self, name: Name, repetition: int) -> str:
        slug = name.text().replace("/", "-").replace(":", "")
        return os.path.join(self.points_path, f"{slug}-{repetition}.json")

    def scratch_path(self) -> str:
        """The temporary file that the program writes; it is renamed to the point's file when complete."""
        return self.file("running.json")

    def keep(self, name: Name, repetition: int) -> None:
        os.replace(self.scratch_path(), self.point_path(name, repetition))

    def load(self, name: Name, repetition: int) -> "Point | None":
        """Returns the point; None if it has not been measured."""
        try:
            with open(self.point_path(name, repetition), encoding="utf-8") as file:
                _, points = parse_benchmark_json(file.read())
        except (FileNotFoundError, BadResults):
            return None
        for point in points:
            if point.name == name and not point.error:
                point.repetition = repetition
                return point
        return None
