#!/bin/bash
# SPDX-License-Identifier: MIT
#
# faultlane-bench: names follow the grammar, each design verifies and has all counters,
# the folios and the release of each design are as its name says, populating maps what
# is touched and no more, a page that is wrong is an error, what it writes is JSON.
#
# usage: bench.sh PATH-OF-faultlane-bench
set -uo pipefail

bench=${1:?path of faultlane-bench}
designs=(kernel kernel_populate single single_window per_vcpu engine engine_small engine_released
	engine_page engine_in_context)
counters=(pages_per_second cpu_us_per_page worker_cpu_us_per_page touch_p50_us touch_p99_us
	touch_p999_us touch_max_us fault_p50_us fault_p99_us faulted_p50_us faulted_p99_us
	faulted_max_us switches_per_page runqueue_wait_us cpu_used_by_others settled_cpu_us_per_page
	settle_seconds warm_seconds memory_bytes page_table_bytes large_folio_bytes
	large_mapped_bytes released_bytes userfaultfds_at_end)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
nr_failed=0

fail()
{
	echo "FAILED: $*"
	tail -n 20 "$dir/err" | sed 's/^/    /'
	nr_failed=$((nr_failed + 1))
}

# run STATUS ARGUMENTS...: standard output in $dir/out
run()
{
	local want=$1 status
	shift
	FAULTLANE_BENCH_MEMORY=${memory-16M} timeout 60 "$bench" --retries 0 "$@" >"$dir/out" 2>"$dir/err"
	status=$?
	[[ $status -eq $want ]] || fail "status $status where $want is due: $*"
}

# values NAME: of a counter in the JSON, one a line
values()
{
	sed -n 's/^ *"'"$1"'": \(.*[^,]\),\{0,1\}$/\1/p' "$dir/out"
}

# all NAME CONDITION: every value of the counter fulfils awk's CONDITION, and there are $nr
all()
{
	values "$1" | awk -v nr="$nr" -v name="$1" '
		!('"$2"') { print name " is " $1; bad = 1 }
		END { if (NR != nr) { print name " is there " NR " times, not " nr; bad = 1 } exit bad }
	' >"$dir/err" || fail "$1, which should be $2"
}

is_json()
{
	command -v python3 >/dev/null || return 0
	python3 -c 'import json, sys
json.load(sys.stdin, parse_constant=lambda name: sys.exit(name + " is no JSON"))' \
		<"$dir/out" 2>"$dir/err" || fail "what was written is no JSON"
}

names_follow_the_grammar()
{
	local case='(random|sequential)/(read|write)/density:(1|8|64|512)/share:(disjoint|mixed)'
	local strays design

	run 0 --benchmark_list_tests --benchmark_filter='^(touch|weak)/'
	strays=$(grep -vE "^(touch|weak)/[a-z_]+/$case/threads:[0-9]+$" "$dir/out")
	[[ -z $strays ]] || fail "names that are none: $strays"
	[[ -z $(sort "$dir/out" | uniq -d) ]] || fail "names that are there twice"
	for design in "${designs[@]}"; do
		[[ $(grep -cE "^touch/$design/.*/threads:(1|2|4|8|16|32|64|128|256)$" "$dir/out") -eq \
			$((2 * 2 * 4 * 2 * 9)) ]] || fail "the grid of $design"
	done
	run 0 --benchmark_list_tests --threads 3 --window 16,512 \
		--benchmark_filter='^touch/.*/random/read/density:1/share:mixed/threads:3/window:'
	[[ $(wc -l <"$dir/out") -eq 8 ]] ||
		fail "fixed windows of engine, engine_small, in context and single_window"
	run 0 --benchmark_list_tests --threads 3 --folio 4K,2M \
		--benchmark_filter='^touch/.*/random/read/density:1/share:mixed/folio:(4K|2M)/threads:3$'
	[[ $(wc -l <"$dir/out") -eq 4 ]] || fail "fixed folios of engine and engine_released"
}

designs_verify_and_have_counters()
{
	local name list

	list=$(IFS='|' && echo "${designs[*]}")
	nr=$((${#designs[@]} * 2 + 2))
	run 0 --threads 5 --benchmark_format=json \
		--benchmark_filter="^touch/(($list)/random/(read|write)/density:1/share:mixed/|engine/random/(read|write)/density:1/share:disjoint/)"
	is_json
	[[ -z $(values error_message) ]] || fail "$(values error_message)"
	for name in "${counters[@]}"; do
		all "$name" '$1 >= 0'
	done
	for name in pages_per_second cpu_us_per_page settled_cpu_us_per_page touch_max_us real_time \
		cpu_time; do
		all "$name" '$1 > 0'
	done
	all pages '$1 == 4096'
	# 16 MiB, and page tables and maps.
	all memory_bytes '$1 >= 16777216 && $1 < 20000000'
}

# one DESIGN NAME=CONDITION...: a run of it by itself.
one()
{
	local design=$1 pair

	shift
	run 0 --threads 3 --folio 4K --benchmark_format=json \
		--benchmark_filter="^touch/$design/threads:3\$"
	[[ -z $(values error_message) ]] || fail "$design: $(values error_message)"
	for pair in "$@"; do
		nr=1 all "${pair%%=*}" "${pair#*=}"
	done
}

folios_and_release()
{
	local rest=random/write/density:1/share:disjoint all='$1 == 16777216' none='$1 == 0' large
	local file=/sys/kernel/mm/transparent_hugepage/shmem_enabled before=$nr_failed

	one kernel/$rest "large_folio_bytes=$none" "released_bytes=$none" "userfaultfds_at_end=$none"
	one single/$rest 'userfaultfds_at_end=$1 == 1'
	one engine_small/$rest "large_folio_bytes=$none" "released_bytes=$none" \
		'userfaultfds_at_end=$1 > 0'
	one engine_released/$rest/folio:4K "large_folio_bytes=$none" "large_mapped_bytes=$none" \
		"released_bytes=$all" "userfaultfds_at_end=$none"
	one engine/$rest/folio:4K "large_folio_bytes=$none" "released_bytes=$all" \
		"userfaultfds_at_end=$none"
	large=$(sed 's/.*\[\(.*\)\].*/\1/' $file 2>/dev/null)
	case ${large:-never} in
	never | deny)
		run 0 --threads 3 --benchmark_filter="^touch/kernel_huge/$rest/"
		grep -q 'left out: shmem_enabled is' "$dir/out" ||
			fail "kernel_huge is not left out where shmem_enabled is '$large'"
		one engine_released/$rest "large_folio_bytes=$none" "released_bytes=$all"
		;;
	*)
		# The kernel may have no 2 MiB in one piece: then both have small folios.
		run 0 --threads 3 --benchmark_filter="^touch/kernel_huge/$rest/"
		if grep -q 'left out: the kernel gave' "$dir/out"; then
			echo "large folios are left out: memory is fragmented"
			return
		fi
		one kernel_huge/$rest "large_folio_bytes=$all" "large_mapped_bytes=$all" \
			"released_bytes=$none"
		one engine_released/$rest "large_folio_bytes=$all" "large_mapped_bytes=$all" \
			"released_bytes=$all" "userfaultfds_at_end=$none"
		one engine/$rest "large_folio_bytes=$all" "released_bytes=$all" \
			"userfaultfds_at_end=$none"
		;;
	esac
	if [[ $nr_failed -ne $before && $large != "$(sed 's/.*\[\(.*\)\].*/\1/' $file 2>/dev/null)" ]]; then
		echo "the host's setting of large folios was changed meanwhile"
		nr_failed=$before
	fi
}

populating_maps_what_is_touched()
{
	nr=2
	run 0 --threads 3 --benchmark_format=json \
		--benchmark_filter='^touch/kernel_populate/random/write/density:8/share:(mixed|disjoint)/'
	# Populated as a whole it is 8; other faults of the process count, too.
	all faults_per_page '$1 > 0.9 && $1 < 4'
}

other_orders_and_memory()
{
	# Sparse: memory is made large enough for 2000 touches.
	nr=4
	run 0 --threads 3 --pin scatter --benchmark_format=json \
		--benchmark_filter='^touch/engine/sequential/(read|write)/density:8/share:(mixed|disjoint)/'
	all pages '$1 >= 2000'
	nr=4
	run 0 --threads 2 --window 16 --benchmark_format=json \
		--benchmark_filter='^weak/.*/random/write/density:64/share:disjoint/threads:2/window:16$'
	all pages '$1 == 512'
	run 0 --memory 8T --threads 1 \
		--benchmark_filter='^touch/kernel/random/read/density:1/share:mixed/'
	grep -q 'left out: it takes' "$dir/out" || fail "memory that is unavailable is not left out"
	run 0 --threads 4097 \
		--benchmark_filter='^touch/kernel/random/read/density:1/share:mixed/'
	grep -q 'left out: fewer pages' "$dir/out" || fail "more threads than pages are not left out"
}

repetitions_are_json()
{
	nr=7 # three, and mean, median, stddev, cv of them
	run 0 --threads 2 --benchmark_repetitions=3 --benchmark_out="$dir/file" \
		--benchmark_filter='^touch/kernel/random/write/density:1/share:mixed/'
	cp "$dir/file" "$dir/out"
	is_json
	all pages_per_second '$1 >= 0'
}

wrong_pages_are_errors()
{
	local design

	for design in kernel single engine engine_small engine_released; do
		FAULTLANE_BENCH_SPOIL=1 run 1 --threads 2 --benchmark_format=json \
			--benchmark_filter="^touch/$design/random/read/density:1/share:mixed/"
		[[ $(values error_message) == '"1 of 4096 pages are wrong'* ]] ||
			fail "a wrong page of $design is no error"
		[[ -z $(values pages_per_second) ]] || fail "a wrong run has figures"
	done
}

bad_input()
{
	local bad

	for bad in '--pin sideways' '--window 3' '--folio 8K' '--folio 4K,' '--threads 0' '--threads 1,' '--memory 1K' '--workers x' \
		'--max-others -1' '--seed' '--nothing'; do
		# shellcheck disable=SC2086 # an option and its value
		run 2 $bad --benchmark_list_tests
		[[ -s $dir/err ]] || fail "nothing is said of $bad"
	done
	memory=lots run 2 --benchmark_list_tests
	run 1 --benchmark_filter='^nothing$'
	run 0 --help
	grep -q -e --window "$dir/out" || fail "--help does not name our options"
}

names_follow_the_grammar
designs_verify_and_have_counters
folios_and_release
populating_maps_what_is_touched
other_orders_and_memory
repetitions_are_json
wrong_pages_are_errors
bad_input
[[ $nr_failed -eq 0 ]]
