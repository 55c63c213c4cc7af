# SPDX-License-Identifier: MIT
"""Describes the machine, for the captions of figures."""
import os
import platform
import re


def first_match(path: str, pattern: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.search(pattern, file.read(), re.MULTILINE)
    except OSError:
        return ""
    return found.group(1).strip() if found else ""


def describe() -> dict:
    total_kib = int(first_match("/proc/meminfo", r"^MemTotal:\s+(\d+) kB") or 0)
    model = (first_match("/proc/cpuinfo", r"^model name\s*:\s*(.*)$")
             or first_match("/proc/cpuinfo", r"^CPU part\s*:\s*(.*)$"))
    flags = first_match("/proc/cpuinfo", r"^flags\s*:\s*(.*)$")
    return {
        "processors": len(os.sched_getaffinity(0)),
        "model": model,
        "virtual": "hypervisor" in flags.split(),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "memory_gib": round(total_kib / (1 << 20)),
    }


def words(machine: dict) -> str:
    nr = machine.get("processors") or 0
    text = f"{nr} processor{'' if nr == 1 else 's'}"
    if machine.get("virtual"):
        text += " of a virtual machine"
    kernel = re.match(r"\d+\.\d+", machine.get("kernel") or "")
    details = [machine.get("model") or machine.get("architecture") or ""]
    if kernel:
        details.append(f"Linux {kernel.group(0)}")
    details = [d for d in details if d]
    return f"{text} ({', '.join(details)})" if details else text
