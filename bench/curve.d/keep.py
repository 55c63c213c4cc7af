# SPDX-License-Identifier: MIT
"""The output folder: each finished point is a file of its own, written whole or not at all."""
import fcntl
import json
import os
import time

from points import BadResults, Name, Point, parse_benchmark_json


class Refusal(Exception):
    """What the user asked for would give figures that do not belong together."""


def write_whole(path: str, text: str) -> None:
    part = path + ".part"
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(part, path)


class Folder:
    """Points that were measured with one program, on one machine, by the same settings."""

    def __init__(self, path: str):
        self.path = path
        self.points_path = os.path.join(path, "points")
        self.lock = None

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def open(self, conditions: dict, fresh: bool) -> None:
        """@conditions: what must be the same for all points, by its name."""
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
        """Where the program writes; it becomes a point's file when it is whole."""
        return self.file("running.json")

    def keep(self, name: Name, repetition: int) -> None:
        os.replace(self.scratch_path(), self.point_path(name, repetition))

    def load(self, name: Name, repetition: int) -> "Point | None":
        """None when it has not been measured."""
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
