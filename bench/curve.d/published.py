# SPDX-License-Identifier: MIT
"""A curve published by others, measured on another machine, for reference."""

# KVM's selftest demand_paging_test -b 64M -u MINOR -s shmem -a -v N -r N: thousands of pages/s of all
# vCPUs together, on an x86 machine with 256 processors.
THREADS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CURVES = {
    "one userfaultfd": (150, 191, 210, 155, 130, 108, 86, 62, 36),
    "one per vCPU": (180, 170, 320, 312, 288, 256, 256, 128, 256),
}
SOURCE = ("published: KVM demand_paging_test, minor faults on shmem, 64 MiB per vCPU, every page, on an x86 "
          "machine with 256 processors (kvm mailing list, 2023)")


def rates(name: str) -> "list[float]":
    return [1000.0 * v for v in CURVES[name]]
