#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The command in two phases, and what it says of memory: each phase settles and is verified,
# filled memory is released or kept as asked, in folios as asked.
#
# usage: cli_phases.sh PATH-OF-faultlane
set -uo pipefail

faultlane=${1:?path of faultlane}
# shellcheck source=tests/integration/cli_lib.sh
. "$(dirname "$0")/cli_lib.sh"

# phase N NAME: a value of the N-th phase in the last JSON object
phase()
{
	local all i

	all=$(<"$dir/out")
	all=${all#*\"phases\": [}
	all=${all%%]*}
	for ((i = 1; i < $1; i++)); do
		all=${all#*\}}
	done
	value_in "${all%%\}*}" "$2"
}

# in_phases ARGUMENTS...: a restore in two phases, each of which must settle and verify
in_phases()
{
	local nr_before=$nr_failed pages n

	restored --phases 2 "$@"
	[[ $nr_failed -eq $nr_before ]] || return
	pages=$(field pages_touched)
	[[ $(phase 1 pages) -gt 0 && $(($(phase 1 pages) + $(phase 2 pages))) -eq $pages ]] ||
		fail "restore --phases 2 $*: $(phase 1 pages) and $(phase 2 pages) of $pages pages"
	# What is touched later is not verified in the first phase, and nothing is left out.
	[[ $(phase 1 pages_verified) -eq $(phase 1 pages) ]] ||
		fail "restore --phases 2 $*: $(phase 1 pages_verified) pages verified in the first phase"
	[[ $(phase 2 pages_verified) -eq $(field pages_verified) ]] ||
		fail "restore --phases 2 $*: $(phase 2 pages_verified) pages verified in the second phase"
	for n in 1 2; do
		[[ $(phase $n pages_wrong) == 0 && $(phase $n settled) == true ]] ||
			fail "restore --phases 2 $*: phase $n has not settled"
	done
}

for n in 0 3 -1 two; do
	refused 2 "--phases '$n': give a whole number from 1 to 2" \
		"$faultlane" restore --image "$dir/image" --phases "$n"
done
# Each thread has a page in each phase.
refused 2 "--threads 16 with --phases 2 exceeds the 16 pages" \
	"$faultlane" restore --image "$dir/image" --density 256 --phases 2 --design kernel
refused 2 "--release: unknown value 'maybe'; use auto or never" \
	"$faultlane" restore --image "$dir/image" --release maybe
refused 2 "--release never has an effect only with --design engine" \
	"$faultlane" restore --image "$dir/image" --release never --design single
refused 2 "--folio: unknown value '1G'; use auto, 4K or 2M" \
	"$faultlane" restore --image "$dir/image" --folio 1G
refused 2 "--folio has an effect only with --design engine and --page-size 4K" \
	"$faultlane" restore --image "$dir/image" --folio 2M --design kernel

restored --design kernel --threads 3 --op write
for key in pages seconds cpu_us_per_page touch_p50_us touch_p99_us faults settled settle_seconds \
	settle_cpu_seconds filled_bytes released_bytes userfaultfds memory_bytes copied_bytes \
	pages_verified pages_wrong; do
	[[ -n $(phase 1 $key) && -z $(phase 2 $key) ]] || fail "the only phase has no $key"
done

in_phases --design kernel --threads 5 --op write
[[ $(phase 1 faults) -gt 0 && $(field userfaultfds_at_end) -eq 0 ]] ||
	fail "kernel: $(phase 1 faults) faults, $(field userfaultfds_at_end) userfaultfds"

"$faultlane" doctor >"$dir/doctor" 2>"$dir/err" || {
	[[ $nr_failed -eq 0 ]] || exit 1
	echo "SKIP: faultlane doctor says that userfaultfd is unavailable here"
	exit 77
}

for design in single single_window engine; do
	in_phases --design $design --threads 5 --op write
	in_phases --design $design --threads 5 --order sequential --density 8
done

image_bytes=$((16 << 20))
for source in memory file; do
	in_phases --threads 8 --op write --source $source --folio 4K
	# One page in one is touched: the image is whole at the end, whatever windows did before.
	[[ $(field released_bytes) -eq $image_bytes && $(field userfaultfds_at_end) -eq 0 ]] ||
		fail "--source $source: $(field released_bytes) bytes released, $(field userfaultfds_at_end) userfaultfds at the end"
	[[ $(phase 2 released_bytes) -eq $image_bytes && $(phase 2 userfaultfds) -eq 0 ]] ||
		fail "--source $source: $(phase 2 released_bytes) bytes released in the second phase"
	[[ $(field filled_bytes) -eq $image_bytes && $(field large_blocks) -eq 0 ]] ||
		fail "--source $source --folio 4K: $(field filled_bytes) bytes filled, $(field large_blocks) large blocks"
	[[ $(field memory_bytes) -gt $((image_bytes / 2)) && $(field memory_bytes) -le $((image_bytes + (1 << 20))) ]] ||
		fail "--source $source --folio 4K takes $(field memory_bytes) bytes"
	in_phases --threads 8 --op write --source $source --release never
	[[ $(field released_bytes) -eq 0 && $(field userfaultfds_at_end) -ge $(field shards) ]] ||
		fail "--release never: $(field released_bytes) bytes released, $(field userfaultfds_at_end) userfaultfds"
	[[ $source == file || ($(phase 1 filled_bytes) -eq $image_bytes && $(phase 1 faults) -gt 0) ]] ||
		fail "--release never: $(phase 1 faults) faults in the first phase"
done
# Filled before it is released: nobody waits for a worker in the second phase.
in_phases --threads 8 --source memory
[[ $(phase 1 released_bytes) -eq $image_bytes && $(phase 2 faults) -eq 0 ]] ||
	fail "$(phase 2 faults) faults in memory that had been released"
# One page is touched in a block, and read alone: nothing is whole.
in_phases --threads 1 --density 512 --source file --window 1 --folio 4K
[[ $(phase 1 filled_bytes) -lt $(phase 2 filled_bytes) && $(field filled_bytes) -lt $image_bytes ]] ||
	fail "sparse: $(phase 1 filled_bytes), then $(field filled_bytes) bytes filled"
[[ $(field userfaultfds_at_end) -gt 0 ]] || fail "sparse: the guest has been released"

if grep -qE '\[(advise|within_size|always|force)\]' /sys/kernel/mm/transparent_hugepage/shmem_enabled 2>/dev/null; then
	in_phases --threads 8 --folio 2M --op write
	[[ $(field large_blocks) -gt 0 ]] || fail "--folio 2M: no large folio where the host permits them"
else
	echo "SKIP: --folio 2M, because shmem_enabled does not permit large folios"
fi

for more in "" "--release never" "--source file" "--delivery in-context --release never"; do
	# shellcheck disable=SC2086 # words
	in_phases --threads 8 --guests 4 --sharing private --op write --density 2 $more
	[[ $(field copied_bytes) -ge $((4 * image_bytes / 2)) && $(field copied_bytes) -gt $(phase 1 copied_bytes) ]] ||
		fail "$more: $(phase 1 copied_bytes), then $(field copied_bytes) bytes copied by 4 guests"
	if [[ $more == *never* ]]; then
		[[ $(field released_bytes) -eq 0 ]] || fail "clones released, although never was asked"
	elif [[ $more == "" ]]; then
		[[ $(field released_bytes) -eq $((4 * image_bytes)) ]] || fail "clones: $(field released_bytes) bytes released"
	fi
done
for more in --populate "--advice random" "--delivery in-context" "--delivery in-context --source file"; do
	# shellcheck disable=SC2086 # words
	in_phases --threads 4 --op write $more
	[[ $(field userfaultfds_at_end) -eq 0 ]] || fail "$more: $(field userfaultfds_at_end) userfaultfds at the end"
done

# What people read has it, too.
"$faultlane" restore --image "$dir/image" --phases 2 >"$dir/out" 2>"$dir/err" || fail "a table ends with $?"
for text in "16 of 16 MiB filled, 16 of 16 MiB released, 0 userfaultfds" "phase"; do
	grep -qF "$text" "$dir/out" || fail "the table does not say '$text'"
done

[[ $nr_failed -eq 0 ]] || exit 1
echo "all phases settled and verified"
