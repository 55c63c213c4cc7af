#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What the programs do with a host that is not as they would have it: output that cannot be
# written, an image that is a pipe, a small stack, a small memory cgroup, another device.
#
# usage: programs.sh FAULTLANE FAULTLANE-STRESS [FAULTLANE-BENCH]
set -uo pipefail

faultlane=${1:?path of faultlane}
stress=${2:?path of faultlane-stress}
bench=${3-}
dir=$(mktemp -d)
group=
end()
{
	rm -rf "$dir"
	[[ ! $group ]] || rmdir "$group"
}
trap end EXIT
nr_failed=0

fail()
{
	echo "FAILED: $*"
	sed 's/^/    /' "$dir/err"
	nr_failed=$((nr_failed + 1))
}

head -c $((4 << 20)) /dev/urandom >"$dir/image"
"$faultlane" doctor >"$dir/doctor" 2>"$dir/err"
runs=$?

# A disk that is full, and a pipe whose reader has gone.
unwritten()
{
	timeout 60 "$@" >/dev/full 2>"$dir/err"
	local status=$?
	[[ $status -eq 1 ]] || fail "'$*' ends with $status, not 1, where its output cannot be written"
	grep -q 'standard output' "$dir/err" || fail "'$*' does not say that its output cannot be written"
}
unwritten "$faultlane" --version
unwritten "$faultlane" --help
unwritten "$faultlane" restore --help
unwritten "$faultlane" doctor
unwritten "$faultlane" doctor --json
unwritten "$faultlane" doctor --help
unwritten "$faultlane" doctor --plan
unwritten "$stress" --help
if [[ $runs -eq 0 ]]; then
	unwritten "$faultlane" restore --image "$dir/image" --json
	unwritten "$stress" --seconds 1 --memory 16M --threads 4 --json --quiet
fi
if [[ $bench ]]; then
	unwritten "$bench" --help
	unwritten "$bench" --benchmark_list_tests --benchmark_filter='^restore/'
fi

# Nobody opens the other end.
mkfifo "$dir/pipe"
timeout 20 "$faultlane" restore --image "$dir/pipe" >"$dir/out" 2>"$dir/err"
status=$?
[[ $status -eq 1 ]] || fail "restore of a pipe ends with $status, not 1"
grep -q 'not a regular file' "$dir/err" || fail "restore of a pipe does not say what is wrong"

[[ $runs -eq 0 ]] || {
	echo "SKIP: faultlane doctor says that the engine cannot run here"
	exit $((nr_failed ? 1 : 77))
}

# Threads have a stack of that size then, and the first one has it, too.  ThreadSanitizer's
# own start needs more.
if ldd "$faultlane" | grep libtsan >/dev/null; then # with -q, ldd may be killed by SIGPIPE
	echo "SKIP: ThreadSanitizer does not run with a small stack"
else
	for args in "--source memory" "--source file" "--source file --sharing private --op write" \
		"--delivery in-context" "--design kernel"; do
		# shellcheck disable=SC2086 # words
		(ulimit -s 192 && exec timeout 60 "$faultlane" restore --image "$dir/image" $args) \
			>"$dir/out" 2>"$dir/err" || fail "restore $args with a stack of 192 KiB ends with $?"
	done
	(ulimit -s 192 && exec timeout 60 "$stress" --seconds 1 --memory 16M --threads 4 --quiet) \
		>"$dir/out" 2>"$dir/err" || fail "stress with a stack of 192 KiB ends with $?"
fi

# The group's limit is less than the machine has.
if [[ -w /sys/fs/cgroup/memory ]]; then
	group=/sys/fs/cgroup/memory/fln-test-$$ limit=memory.limit_in_bytes
elif grep -qsw memory /sys/fs/cgroup/cgroup.subtree_control; then
	group=/sys/fs/cgroup/fln-test-$$ limit=memory.max
fi
if [[ $group ]] && mkdir "$group" 2>/dev/null &&
	echo $((128 << 20)) 2>/dev/null >"$group/$limit"; then
	truncate -s 512M "$dir/large"
	(echo $BASHPID >"$group/cgroup.procs" && exec "$faultlane" restore --image "$dir/large") \
		>"$dir/out" 2>"$dir/err"
	status=$?
	[[ $status -eq 1 ]] || fail "restore of 512 MiB in a group of 128 MiB ends with $status, not 1"
	grep -q 'MiB are available' "$dir/err" || fail "restore does not say what is available"
	(echo $BASHPID >"$group/cgroup.procs" && exec "$faultlane" doctor) >"$dir/out" 2>"$dir/err"
	have=$(sed -n 's/.*memory available *\([0-9]*\) MiB.*/\1/p' "$dir/out")
	[[ $have && $have -le 128 ]] || fail "doctor says '$have' MiB in a group of 128 MiB"
else
	group=
	echo "SKIP: no memory cgroup can be made here"
fi

# /dev/userfaultfd is another device, and the user has no privilege.
as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs)
if [[ -c /dev/userfaultfd ]] && chmod 711 "$dir" && cp "$faultlane" "$dir/faultlane" &&
	chmod 755 "$dir/faultlane" && chmod 644 "$dir/image" &&
	unshare -m true 2>/dev/null && "${as_nobody[@]}" true 2>/dev/null &&
	[[ $(cat /proc/sys/vm/unprivileged_userfaultfd) == 0 ]]; then
	jailed()
	{
		unshare -m sh -c 'mount --make-rprivate / && mount --bind /dev/null /dev/userfaultfd &&
			exec "$@"' sh "${as_nobody[@]}" "$dir/faultlane" "$@" >"$dir/out" 2>"$dir/err"
	}
	jailed doctor || fail "doctor ends with $? where another device is called userfaultfd"
	grep -q 'wrong number' "$dir/out" || fail "doctor does not tell of the other device"
	grep -q 'user-mode faults only' "$dir/out" || fail "doctor does not say that user mode is served"
	jailed restore --image "$dir/image" ||
		fail "restore ends with $? where another device is called userfaultfd"
else
	echo "SKIP: no jail can be made here"
fi

[[ $nr_failed -eq 0 ]] || { echo "$nr_failed failed"; exit 1; }
