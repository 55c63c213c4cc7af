#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Sees that fuzz_serve can fail: plays its corpus with each of these bugs of base/plant.h,
# which has to be found, and once without.  usage: planted.sh PROGRAM
set -uo pipefail

program=$1
corpus=$(mktemp -d)
bugs=(wake-left-out neighbour zeros-for-failed discard-refilled left-claimed counted-twice
	wake-only continue-unfilled poison-overwritten eexist-served)
rc=0
ulimit -c 0

said=$(mktemp)
trap 'rm -rf "$said" "$corpus"' EXIT
"$(dirname "$0")"/unpack serve "$corpus"
for bug in none "${bugs[@]}"; do
	{
		FAULTLANE_PLANT=$bug timeout 200 "$program" "$corpus" >"$said" 2>&1
		status=$?
	} 2>/dev/null # bash says what was aborted
	played=$(grep -c "^$corpus/" "$said")
	why=$(grep -v "^$corpus/" "$said" | head -n 1)
	case $bug:$status in
	none:0) echo "none: all is well in $played inputs" ;;
	none:*) echo "none: failed, status $status: $why"; rc=1 ;;
	*:0 | *:2 | *:12[4-7]) echo "$bug: not found in $played inputs, status $status"; rc=1 ;;
	*) echo "$bug: found by input $played, status $status: $why" ;;
	esac
done
exit $rc
