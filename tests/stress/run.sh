#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A stress run as a test: run.sh PROGRAM ARGUMENTS...  FAULTLANE_TEST_SCALE says how long.
# The seed is the day's (at scale long one more), unless FAULTLANE_STRESS_SEED says otherwise: not
# always the same, and printed, so that a run can be done again.
set -uo pipefail

program=$1
shift
case ${FAULTLANE_TEST_SCALE:-normal} in
quick) seconds=3 threads=64 memory=128M nr_seeds=1 ;;
long) seconds=600 threads=256 memory=2G nr_seeds=2 ;;
*) seconds=15 threads=200 memory=512M nr_seeds=1 ;;
esac
day=$(($(date +%s) / 86400))
if [[ ${FAULTLANE_STRESS_SEED-} ]]; then
	seeds=("$FAULTLANE_STRESS_SEED")
elif [[ $nr_seeds -eq 1 ]]; then
	seeds=("$day")
else
	seeds=("$day" $((day * 7919)))
fi

for seed in "${seeds[@]}"; do
	command=("$program" --quiet --threads "$threads" --memory "$memory" --seconds "$seconds"
		--seed "$seed" "$@")
	echo "${command[*]}"
	"${command[@]}" || exit
done
