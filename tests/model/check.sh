#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Lets spin go through all interleavings of a model.  usage: check.sh MODEL.pml [BUG]
# With BUG that bug is planted in the model, and has to be found.
set -euo pipefail

model=$(realpath "$1") bug=${2-}
if [[ ${FAULTLANE_TEST_SCALE-normal} == quick ]]; then
	echo "SKIP: models take too long for quick scale"
	exit 77
fi
command -v spin >/dev/null || { echo "SKIP: spin is not installed"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
spin ${bug:+-D"$bug"} -a "$model"
cc -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=4000 -o pan pan.c
./pan -m1000000 >out || true
cat out
if grep -q 'max search depth too small\|out of memory\|Search not completed' out && [[ ! $bug ]]; then
	echo "the search was not complete"
	exit 1
fi
if [[ $bug ]]; then
	grep -q 'assertion violated' out || { echo "$bug was not found"; exit 1; }
	exit 0
fi
grep -q 'errors: 0' out || { spin -t -p "$model" | tail -n 80; exit 1; }
