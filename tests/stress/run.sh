#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A stress run as a test: run.sh PROGRAM ARGUMENTS...  FAULTLANE_TEST_SCALE says how long.
# The seed is the day's unless FAULTLANE_STRESS_SEED says otherwise: not always the
# same, and printed, so that a run can be done again.
set -uo pipefail

program=$1
shift
case ${FAULTLANE_TEST_SCALE:-normal} in
quick) seconds=3 threads=64 memory=128M ;;
long) seconds=600 threads=256 memory=2G ;;
*) seconds=10 threads=200 memory=512M ;;
esac
seed=${FAULTLANE_STRESS_SEED:-$(($(date +%s) / 86400))}
command=("$program" --quiet --threads "$threads" --memory "$memory" --seconds "$seconds"
	--seed "$seed" "$@")
echo "${command[*]}"
exec "${command[@]}"
