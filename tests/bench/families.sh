#!/bin/bash
# SPDX-License-Identifier: MIT
#
# clone/, foreign/ and restore/ of faultlane-bench, small: what runs is verified, the
# figures that are due are there, clones share what they only read, of foreign memory that
# is touched here and there no neighbours are copied, designs that release leave no
# userfaultfd, and a page that is spoiled is no figure.
#
# usage: families.sh FAULTLANE-BENCH
set -uo pipefail

bench=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work
failed=0

complain()
{
	echo "families: $*"
	failed=1
}

# run RESULT FILTER: the report as JSON; what it says on stderr is kept, too.
run()
{
	timeout 120 "$bench" --memory=16M --retries=0 --threads=4 --benchmark_filter="$2" \
		--benchmark_format=json >"$work/$1" 2>"$work/err"
}

# value RESULT NAME COUNTER
value()
{
	awk -v name="\"$2\"" -v counter="\"$3\":" '
		$1 == "\"name\":" {here = $2 == name ","}
		here && $1 == counter {sub(/,$/, "", $2); print $2 + 0}
	' "$work/$1"
}

# holds WHAT EXPRESSION: of awk.
holds()
{
	awk "BEGIN {exit !($2)}" || complain "$1: $2 does not hold"
}

if ! run clone.json '^clone/'; then
	if grep -qE 'privilege|/dev/userfaultfd' "$work/err" "$work/clone.json"; then
		echo "SKIP: no userfaultfd here"
		exit 77
	fi
	complain "clone/ failed: $(grep -h error_message "$work/clone.json" | head -n 1) $(tail -n 1 "$work/err")"
fi
holds "clones that read share one image of 16 MiB" \
	"$(value clone.json clone/engine/read/density:1/guests:4 pss_mib_per_guest) + 0 > 3 &&
	$(value clone.json clone/engine/read/density:1/guests:4 pss_mib_per_guest) + 0 < 6"
holds "clones that write all have copies of their own" \
	"$(value clone.json clone/engine/write/density:1/guests:4 pss_mib_per_guest) + 0 > 15.9"
holds "making guests takes time" \
	"$(value clone.json clone/engine/write/density:8/guests:4 set_up_seconds) + 0 > 0"

run foreign.json '^foreign/(loop|engine)/sequential/density:(1|16)/' ||
	complain "foreign/ failed: $(grep -h error_message "$work/foreign.json" | head -n 1) $(tail -n 1 "$work/err")"
for design in loop engine; do
	name=foreign/$design/sequential/density:16/threads:4
	holds "$name copies what is touched" "$(value foreign.json "$name" copied_per_page) + 0 >= 1 &&
		$(value foreign.json "$name" copied_per_page) + 0 < 1.1"
done
name=foreign/engine/sequential/density:1/threads:4
holds "dense memory is copied by windows" \
	"$(value foreign.json "$name" faults_per_page) + 0 < 0.5"

for counter in released_bytes userfaultfds_at_end; do
	value=$(value clone.json clone/engine_released/read/density:1/guests:4 $counter)
	case $counter in
	released_bytes) holds "clones are released" "${value:--1} == 4 * 16777216" ;;
	*) holds "released clones have no userfaultfd" "${value:--1} == 0" ;;
	esac
done
holds "clones that write take memory for the image and for copies" \
	"$(value clone.json clone/engine_small/write/density:1/guests:4 memory_bytes) + 0 >= 5 * 16777216 &&
	$(value clone.json clone/engine_small/write/density:1/guests:4 memory_bytes) + 0 < 6 * 16777216"

run restore.json '^restore/.*/write/density:(1|512)/|^restore/kernel/.*/read/density:1/' ||
	complain "restore/ failed: $(grep -h error_message "$work/restore.json" | head -n 1) $(tail -n 1 "$work/err")"
for source in file/ahead memory/ahead put/ahead file/late memory/late file/behind memory/behind \
	slow_1ms/late slow_10ms/late; do
	for design in engine engine_small; do
		cache=
		[[ $source == file/* ]] && cache=/cache:warm
		name=restore/$design/$source/write/density:1$cache/threads:4
		filled=$(value restore.json "$name" fill_seconds)
		case $source in
		*/ahead) holds "$name is filled before" "${filled:--1} > 0" ;;
		*) holds "$name is filled as it is touched" "${filled:--1} == 0" ;;
		esac
		holds "$name" "$(value restore.json "$name" pages) + 0 == 4096"
		left=$(value restore.json "$name" userfaultfds_at_end)
		released=$(value restore.json "$name" released_bytes)
		if [[ $design == engine ]]; then
			holds "$name: all of it is released" "${left:--1} == 0 && ${released:--1} == 16777216"
		else
			holds "$name: nothing of it is released" "${left:--1} > 0 && ${released:--1} == 0"
		fi
	done
done
holds "a source of 10 ms a read is waited for" "$(value restore.json \
	restore/engine_small/slow_10ms/late/write/density:512/threads:4 faulted_p50_us) + 0 > 9000"
# 8 pages of 4 096, each filled with 63 neighbours at most.
holds "a sparse guest in small folios takes memory for what is filled" "$(value restore.json \
	restore/engine_small/memory/late/write/density:512/threads:4 memory_bytes) + 0 < 8 * 300000"
holds "the baseline" "$(value restore.json \
	restore/kernel/file/late/read/density:1/cache:warm/threads:4 pages_per_second) + 0 > 0"

for name in clone/engine/read/density:1/guests:4 clone/kernel/write/density:8/guests:4 \
	foreign/engine/random/density:1/threads:4 foreign/loop/random/density:1/threads:4 \
	clone/engine_released/read/density:1/guests:4 \
	restore/engine/file/late/read/density:1/cache:warm/threads:4 \
	restore/kernel/file/late/read/density:1/cache:warm/threads:4 \
	restore/engine_small/put/ahead/write/density:1/threads:4; do
	if FAULTLANE_BENCH_SPOIL=1 run spoiled.json "^$name\$"; then
		complain "$name: a spoiled page was not found"
	fi
	grep -q 'pages are wrong' "$work/spoiled.json" || complain "$name: it does not say that pages are wrong"
done
exit "$failed"
