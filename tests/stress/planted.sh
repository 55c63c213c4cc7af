#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Builds the library with bugs planted (base/plant.h) and sees that faultlane-stress
# finds each of them.  usage: planted.sh SOURCE-FOLDER [SEEDS]
set -uo pipefail

source_dir=$1
seeds=${2:-1}
bugs=(wake-left-out neighbour zeros-for-failed discard-refilled left-claimed counted-twice
	wake-only continue-unfilled poison-overwritten)
build=$source_dir/build/planted
cmake -S "$source_dir" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DFAULTLANE_PLANTS=ON \
	-DFAULTLANE_TESTS=OFF >/dev/null || exit 1
cmake --build "$build" --target faultlane-stress >/dev/null || exit 1

missed=0
for bug in "${bugs[@]}"; do
	for ((seed = 1; seed <= seeds; seed++)); do
		log=$(FAULTLANE_PLANT=$bug "$build/bin/faultlane-stress" --quiet --threads 200 \
			--memory 256M --seconds 45 --max-wait 20 --chaos all --seed "$seed" 2>&1)
		rc=$?
		if [[ $rc -eq 1 ]]; then
			echo "$bug, seed $seed: found: $(grep -m1 -oE '(WRONG|LOST).*' <<<"$log")"
		else
			echo "$bug, seed $seed: MISSED (exit $rc)"
			missed=$((missed + 1))
		fi
	done
done
FAULTLANE_PLANT=none "$build/bin/faultlane-stress" --quiet --threads 200 --memory 256M \
	--seconds 10 --chaos all || { echo "no bug, and something was found"; missed=$((missed + 1)); }
exit $((missed > 0))
