#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Sees that the stress program can fail: plants each bug of planted.txt (base/plant.h)
# and runs faultlane-stress until it finds it.  A bug must be found within 60 s on nine
# of ten seeds, and without a bug nothing may be found.  Prints a table.
set -uo pipefail

usage()
{
	cat <<-'END'
	usage: planted.sh [--seeds N] [--tries N] [--jobs N] [--bug NAME] [BUILD=PROGRAM...]

	  --seeds N      seeds 1 to N for each bug (default 10)
	  --part K/N     of every Nth row only, from the Kth (0 is the first)
	  --tries N      with so many seeds in place of one that does not find it (default 1)
	  --jobs N       so many runs at a time (default 2)
	  --bug NAME     of this bug only; may be given again
	  BUILD=PROGRAM  the program for the rows of release, asan or tsan; without any
	                 all three are built
	END
}

here=$(cd "$(dirname "$0")" && pwd)
limit_s=60
nr_seeds=10
nr_tries=1
part=0/1
nr_jobs=2
only=()
builds=()
common=(--quiet --threads 200 --memory 256M --max-wait 30)

while [[ $# -gt 0 ]]; do
	case $1 in
	--seeds) nr_seeds=$2; shift ;;
	--part) part=$2; shift ;;
	--tries) nr_tries=$2; shift ;;
	--jobs) nr_jobs=$2; shift ;;
	--bug) only+=("$2"); shift ;;
	*=*) builds+=("$1") ;;
	-h | --help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done

# For the rows of all builds: the presets, and the one program of each.
build_all()
{
	local root=$here/../.. preset

	for preset in release asan tsan; do
		echo "building $preset" >&2
		(cd "$root" && cmake --preset "$preset" &&
			cmake --build --preset "$preset" --target faultlane-stress-planted) \
			>/dev/null || exit 1
		builds+=("$preset=$root/build/$preset/tests/faultlane-stress-planted")
	done
}

program_of()
{
	local b

	for b in "${builds[@]}"; do
		[[ $b == "$1="* ]] && echo "${b#*=}" && return
	done
}

# gcc 12's ThreadSanitizer cannot run where addresses are randomized by more than 28 bits.
prefix=()
if setarch -R true 2>/dev/null; then prefix=(setarch -R); fi
export TSAN_OPTIONS="halt_on_error=1${TSAN_OPTIONS:+:$TSAN_OPTIONS}"

# What was said that nobody says about a machine that lacks something.
verdict='(WRONG|LOST): .*|(AddressSanitizer|ThreadSanitizer|LeakSanitizer): .*|runtime error: .*|.*assert.*'

# run_one ROW SEED TRY SECONDS BUG BUILD OPTIONS...: one line into $results/ROW.SEED:
# the exit code, seconds, and what was said.  Each try of a seed has another in its place.
run_one()
{
	local row=$1 seed=$2 try=$3 seconds=$4 bug=$5 build=$6 log=$results/log.$1.$2 begin rc said
	local ends_s=$((limit_s + 15))

	[[ $bug == none ]] && ends_s=300
	shift 6
	begin=$(date +%s%N)
	{
		FAULTLANE_PLANT=$bug timeout --kill-after=5 "$ends_s" \
			"${prefix[@]}" "$(program_of "$build")" "${common[@]}" \
			--seconds "$seconds" --until-wrong --seed "$((seed + 100 * try))" "$@" >"$log" 2>&1
		rc=$?
	} 2>/dev/null # the shell's word about a crash
	said=$(grep -m1 -oE "$verdict" "$log")
	# 128 and the signal: it crashed.
	[[ ! $said && $rc -gt 128 && $rc -ne 137 ]] && said="signal $((rc - 128))"
	if [[ ! $said ]]; then
		said="exit $rc: $(tail -n 1 "$log")"
		[[ $rc -ne 0 && $rc -ne 77 ]] && rc=missed
	fi
	printf '%s\t%d\t%s\n' "$rc" $((($(date +%s%N) - begin) / 1000000)) "$said" \
		>"$results/$row.$seed"
}

# A bug that nine of ten seeds find is missed by one seed in ten.
run_tries()
{
	local row=$1 seed=$2 try rc
	shift 2

	for ((try = 0; try < nr_tries; try++)); do
		run_one "$row" "$seed" "$try" "$@"
		[[ $2 == none ]] && return
		rc=$(cut -f 1 "$results/$row.$seed")
		[[ $rc == 0 || $rc == missed ]] || return
	done
}

# Runs, so many at a time.
start()
{
	while [[ $(jobs -rp | wc -l) -ge $nr_jobs ]]; do wait -n; done
	run_tries "$@" &
}

# summary ROW: how many of the runs found it, median, longest, and what the first said.
summary()
{
	sort -t $'\t' -k 2,2n "$results/$1".* | awk -F '\t' -v limit=$((limit_s * 1000)) '
		{ if ($1 != "0" && $1 != "missed" && $2 <= limit) { found++; if (!said) said = $3 } else other = $3 }
		{ ms[NR] = $2 }
		END {
			printf "%d\t%d\t%.1f\t%.1f\t%s\n", found, NR, ms[int((NR + 1) / 2)] / 1000,
				ms[NR] / 1000, substr(said ? said : other, 1, 100)
		}'
}

wanted()
{
	local b

	[[ ${#only[@]} -eq 0 ]] && return 0
	for b in "${only[@]}"; do [[ $b == "$1" ]] && return 0; done
	return 1
}

[[ ${#builds[@]} -eq 0 ]] && build_all
results=$(mktemp -d) || exit 1
trap 'rm -rf "$results"' EXIT

# Without a bug: each build with each set of options once.
rows=() control=() row_nr=0
while read -r bug build options; do
	[[ $bug && $bug != '#'* && $(program_of "$build") ]] && wanted "$bug" || continue
	((row_nr++ % ${part#*/} == ${part%/*})) || continue
	rows+=("$bug $build $options")
	control+=("none $build $options")
done <"$here/planted.txt"
mapfile -t control < <(printf '%s\n' "${control[@]}" | sort -u)

for i in "${!rows[@]}"; do
	read -ra row <<<"${rows[i]}"
	for ((seed = 1; seed <= nr_seeds; seed++)); do
		start "$i" "$seed" "$limit_s" "${row[@]}"
	done
done
for i in "${!control[@]}"; do
	read -ra row <<<"${control[i]}"
	start "none$i" 1 $((nr_seeds > 1 ? 30 : 8)) "${row[@]}"
done
wait

bad=0 ran=0
printf '%-23s %-8s %-9s %8s %8s  %s\n' bug build found median longest said
for i in "${!rows[@]}"; do
	read -r bug build options <<<"${rows[i]}"
	if [[ $(cut -f 1 "$results/$i.1") == 77 ]]; then
		printf '%-23s %-8s SKIP: %s\n' "$bug" "$build" "$(cut -f 3 "$results/$i.1")"
		continue
	fi
	ran=$((ran + 1))
	IFS=$'\t' read -r found nr median longest said < <(summary "$i")
	printf '%-23s %-8s %2d of %-3d %6.1f s %6.1f s  %s\n' "$bug" "$build" "$found" "$nr" \
		"$median" "$longest" "$said"
	[[ $((found * 10)) -ge $((nr * 9)) ]] || bad=$((bad + 1))
done
for i in "${!control[@]}"; do
	IFS=$'\t' read -r rc ms said <"$results/none$i.1"
	read -r _ build options <<<"${control[i]}"
	if [[ $rc == 0 ]]; then
		printf '%-23s %-8s nothing is found, as it should be (%s)\n' none "$build" "$options"
	elif [[ $rc != 77 ]]; then
		printf '%-23s %-8s FOUND, without a bug: %s (%s)\n' none "$build" "$said" "$options"
		sed 's/^/    /' "$results/log.none$i.1" | tail -n 30
		bad=$((bad + 1))
	fi
done
[[ $ran -eq 0 ]] && exit 77
exit $((bad > 0))
