#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The command: every design restores and verifies, JSON has its fields, and bad
# input is answered by its exit status, the value and the remedy.
#
# usage: cli_restore.sh PATH-OF-faultlane
# DESIGNS="kernel single" restricts the designs that are tried.
set -uo pipefail

faultlane=${1:?path of faultlane}
designs=${DESIGNS:-kernel single single_window engine}
# shellcheck source=tests/integration/cli_lib.sh
. "$(dirname "$0")/cli_lib.sh"

refused 2 "usage:" "$faultlane"
refused 2 "unknown command 'fly'" "$faultlane" fly
refused 2 "--image FILE is missing" "$faultlane" restore
refused 2 "unknown option '--colour'" "$faultlane" restore --colour blue
refused 2 "'--threads' needs a value" "$faultlane" restore --image "$dir/image" --threads
refused 2 "unexpected argument 'also'" "$faultlane" restore --image "$dir/image" also
for n in 0 4097 -1 1x ""; do
	refused 2 "--threads '$n': give a whole number from 1 to 4096" \
		"$faultlane" restore --image "$dir/image" --threads "$n"
done
refused 2 "--threads 16 is not a multiple of --guests 3" \
	"$faultlane" restore --image "$dir/image" --guests 3
refused 2 "--guests with --op write has an effect only with --sharing private" \
	"$faultlane" restore --image "$dir/image" --guests 2 --op write
refused 2 "--sharing: unknown value 'mine'; use shared or private" \
	"$faultlane" restore --image "$dir/image" --sharing mine
refused 2 "--threads 4096 exceeds the 8 pages" \
	"$faultlane" restore --image "$dir/image" --threads 4096 --density 512 --design kernel
refused 2 "--design: unknown value 'magic'; use engine, single, single_window or kernel" \
	"$faultlane" restore --image "$dir/image" --design magic
refused 2 "--order: unknown value 'up'" "$faultlane" restore --image "$dir/image" --order up
refused 2 "--op: unknown value 'wipe'" "$faultlane" restore --image "$dir/image" --op wipe
refused 2 "--source: unknown value 'tape'" "$faultlane" restore --image "$dir/image" --source tape
refused 2 "--window '3': give a power of two" \
	"$faultlane" restore --image "$dir/image" --window 3
refused 2 "--window '1024': give a whole number from 1 to 512" \
	"$faultlane" restore --image "$dir/image" --window 1024
refused 2 "--window-first 64 is more than --window-max 8" \
	"$faultlane" restore --image "$dir/image" --window-first 64 --window-max 8
refused 2 "--shards has an effect only with --design engine" \
	"$faultlane" restore --image "$dir/image" --design single --shards 4
refused 2 "--source file has an effect only with --design engine" \
	"$faultlane" restore --image "$dir/image" --design kernel --source file
refused 2 "--delay-ms has an effect only with --source file" \
	"$faultlane" restore --image "$dir/image" --delay-ms 5

refused 1 "No such file" "$faultlane" restore --image "$dir/none"
refused 1 "not a regular file" "$faultlane" restore --image "$dir"
: >"$dir/empty"
refused 1 "is empty" "$faultlane" restore --image "$dir/empty"
head -c 5000 /dev/zero >"$dir/odd"
refused 1 "truncate -s 8192" "$faultlane" restore --image "$dir/odd"
truncate -s 1P "$dir/huge" 2>/dev/null || truncate -s 15T "$dir/huge" 2>/dev/null
if [[ -s $dir/huge ]]; then
	refused 1 "--image '$dir/huge'" "$faultlane" restore --image "$dir/huge" --design kernel
fi
rm -f "$dir/huge"

"$faultlane" --version | grep '^faultlane [0-9]' >/dev/null || fail "--version"
"$faultlane" --help | grep doctor >/dev/null || fail "--help"
"$faultlane" restore --help | grep -- --density >/dev/null || fail "restore --help"
refused 2 "unknown option '--loud'" "$faultlane" doctor --loud
"$faultlane" doctor >"$dir/doctor" 2>"$dir/err"
can_run=$?

# Plans of this machine and of others.
planned()
{
	local want=$1
	shift
	"$faultlane" doctor --plan "$@" >"$dir/out" 2>"$dir/err" || fail "doctor --plan $* ends with $?"
	grep -qF -- "$want" "$dir/out" || fail "doctor --plan $* does not say '$want'"
}
planned "this machine: "
planned '"machine": "this machine", "nr_processors": ' --json
planned "2 nodes, 16 processors" --topology "node:2 core:4 pu:2" --vcpus 12 --memory 64G
planned "32 GiB of the guest (50.0 %), from offset 32 GiB on" --topology "node:2 core:4 pu:2" --memory 64G
planned "3@8 (core 4)" --topology "node:2 core:4 pu:2" --workers 6 --vcpu-cpus 3-7
planned "cannot" --help
planned "share a processor with vCPUs" --topology "node:2 core:4 pu:2" --workers 2 --vcpu-cpus 0-15
refused 2 "give a size such as 64G" "$faultlane" doctor --plan --memory 64Q
refused 2 "from 1 to 64" "$faultlane" doctor --plan --workers 65
refused 2 "not a list of processors" "$faultlane" doctor --plan --vcpu-cpus 3-
refused 2 "'a large one'" "$faultlane" doctor --plan --topology "a large one"
refused 2 "nowhere.xml" "$faultlane" doctor --plan --topology "$dir/nowhere.xml"
refused 2 "unexpected argument 'machine'" "$faultlane" doctor --plan machine
refused 2 "list of processors" "$faultlane" restore --image "$dir/image" --vcpu-cpus 3-1
refused 2 "only with --design engine" "$faultlane" restore --image "$dir/image" --design kernel --node 0
refused 1 "may not run on processor 8191" \
	"$faultlane" restore --image "$dir/image" --design kernel --vcpu-cpus 8191

restored --design kernel --threads 3 --op write
for key in design threads order op density window_first window_max shards workers source \
	pages_touched seconds fill_seconds pages_per_second cpu_us_per_page cpu_used_by_others \
	touch_p50_us touch_p99_us touch_p999_us touch_max_us faulted_touches faulted_p50_us \
	faulted_p99_us faulted_p999_us faulted_max_us waits_over_10ms faults refaults minor major \
	zero invalid pages_installed pages_raced installs wakes reads service_p50_us \
	service_p99_us map_bytes pages_verified pages_wrong nr_voluntary_switches sharing guests \
	folio release released_bytes released_faults userfaultfds_at_end filled_bytes memory_bytes \
	copied_bytes large_blocks; do
	[[ -n $(field $key) ]] || fail "the JSON object has no $key"
done
if [[ $can_run -ne 0 ]]; then
	[[ $nr_failed -eq 0 ]] || exit 1
	echo "SKIP: faultlane doctor says that userfaultfd is unavailable here"
	exit 77
fi

if [[ $designs == *engine* ]]; then
	cpu=$(sed -n 's/^Cpus_allowed_list:[^0-9]*\([0-9]*\).*/\1/p' /proc/self/status)
	restored --threads 5 --vcpu-cpus "$cpu" --worker-cpus "$cpu" --node 0
	[[ $(field remote) == 0 ]] || fail "faults on the only node are remote"
	refused 1 "has no node 1023" "$faultlane" restore --image "$dir/image" --node 1023
fi

for design in $designs; do
	for op in read write; do
		for order in random sequential; do
			restored --design "$design" --threads 5 --op $op --order $order
			[[ $(field pages_touched) == 4096 ]] || fail "$design: not every page was touched"
		done
	done
	restored --design "$design" --threads 7 --density 8 --seed 42
	[[ $(field pages_touched) == 512 ]] || fail "$design: density 8 touched $(field pages_touched)"
	[[ $design == kernel ]] || restored --design "$design" --threads 2 --user-mode-only
done
for design in single_window engine; do
	[[ " $designs " == *" $design "* ]] || continue
	restored --design $design --threads 4 --window 16 --op write
	[[ $(field window_first) == 16 && $(field window_max) == 16 ]] || fail "$design: --window 16"
done
if [[ " $designs " == *" single "* ]]; then
	restored --design single --threads 1 --op write
	[[ $(field faults) -ge 4096 && $(field faults) -le 4352 ]] || fail "single: $(field faults) faults for 4096 pages"
fi
if [[ " $designs " == *" engine "* ]]; then
	restored --design engine --threads 20 --window 1 --shards 4 --workers 2 --no-pin --spin-us 0
	[[ $(field shards) == 4 && $(field workers) == 2 ]] || fail "engine: shards and workers"
	restored --design engine --threads 20 --source file
	[[ $(field major) -gt 0 ]] || fail "engine: no fault was major with --source file"
	restored --design engine --threads 20 --source file --delay-ms 2 --prefill --op write

	restored --threads 12 --guests 4
	[[ $(field pages_touched) == 16384 ]] || fail "4 guests: $(field pages_touched) touched"
	for op in read write; do
		restored --threads 12 --guests 4 --sharing private --op $op
		restored --threads 4 --guests 2 --sharing private --op $op --density 16 --source file
	done
fi

# Waits for sources that are late: seconds, and more on a busy machine.
if [[ ${FAULTLANE_TEST_SCALE-normal} == quick ]]; then
	echo "SKIP: image files are not changed under a restore at quick scale"
elif [[ " $designs " == *" engine "* ]]; then
	# Half of the image is in memory when the file is overwritten, the rest comes late:
	# how late, in milliseconds, depends on how long a whole run takes here.
	# When the second run starts late all is zeros before it looks: then once more.
	began_ms=$(date +%s%3N)
	restored --design engine --threads 20
	took_ms=$(($(date +%s%3N) - began_ms))
	late=$(printf '%d.%03d' $(((took_ms + 200) / 1000)) $(((took_ms + 200) % 1000)))
	delay_ms=$((200 + took_ms))
	for _ in 1 2 3; do
		cp "$dir/image" "$dir/victim"
		(sleep "$late" && head -c $((16 << 20)) /dev/zero | dd of="$dir/victim" bs=1M conv=notrunc status=none) &
		"$faultlane" restore --image "$dir/victim" --threads 20 --source file --delay-ms "$delay_ms" \
			--prefill >"$dir/out" 2>"$dir/err"
		status=$?
		wait
		[[ $status -eq 0 ]] || break
	done
	[[ $status -eq 1 ]] && grep -qF "pages are wrong, the first is page 0 (offset 0)" "$dir/err" ||
		fail "an image file that was overwritten: status $status, $(cat "$dir/err")"
	# Where the file is cut off while it is still prefilled, later the next time.
	for more in 0 0.3 0.8 1.5 0; do
		cp "$dir/image" "$dir/victim"
		(sleep "$late" && sleep "$more" && truncate -s 1M "$dir/victim") &
		"$faultlane" restore --image "$dir/victim" --threads 20 --source file --delay-ms "$delay_ms" \
			--prefill >"$dir/out" 2>"$dir/err"
		status=$?
		wait
		grep -qF "could not be filled" "$dir/err" && break
	done
	[[ $status -eq 1 ]] && grep -qF "could not be filled" "$dir/err" ||
		fail "an image file that was cut off: status $status, $(cat "$dir/err")"
fi

[[ $nr_failed -eq 0 ]] || exit 1
echo "all designs restored and verified: $designs"
