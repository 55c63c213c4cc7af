#!/bin/bash
# SPDX-License-Identifier: MIT
#
# planted.sh as a test of one build: planted_test.sh BUILD PROGRAM.  One seed of each bug,
# another where that misses it, ten when FAULTLANE_TEST_SCALE is long.  At normal scale a
# third of the bugs, another each day.
set -uo pipefail

build=$1 program=$2
seeds=1 tries=3 part=0/1
case ${FAULTLANE_TEST_SCALE:-normal} in
quick)
	# With a sanitizer there is no other scale in ./check, and few rows.
	if [[ $build == release ]]; then
		echo "SKIP: bugs are planted at normal scale, not at quick"
		exit 77
	fi
	;;
long) seeds=10 tries=1 ;;
*) part=$(($(date +%s) / 86400 % 3))/3 ;;
esac
exec "$(dirname "$0")/planted.sh" --seeds "$seeds" --tries "$tries" --part "$part" --jobs 2 "$build=$program"
