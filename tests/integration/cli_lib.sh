# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# shellcheck disable=SC2154 # $faultlane is of the script that reads this
#
# For tests of `faultlane restore`: a folder with an image, and functions that run the command
# and look at what it says.
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
nr_failed=0

fail()
{
	echo "FAILED: $*"
	sed 's/^/    /' "$dir/err"
	nr_failed=$((nr_failed + 1))
}

# value_in TEXT NAME: the last value of that name in JSON
value_in()
{
	local value='.*[{ ]"'$2'": "?([^",}]*)'

	[[ ! $1 =~ $value ]] || echo "${BASH_REMATCH[1]}"
}

# field NAME: a value of the last JSON object
field()
{
	value_in "$(<"$dir/out")" "$1"
}

# restored ARGUMENTS...: a restore that must verify
restored()
{
	"$faultlane" restore --image "$dir/image" --json "$@" >"$dir/out" 2>"$dir/err"
	local status=$? want

	# Where writes are private all of every guest is verified, and the image.
	want=$(field pages_touched)
	[[ $(field sharing) != private ]] ||
		want=$((($(field guests) + 1) * $(field image_bytes) / 4096))
	if [[ $status -ne 0 ]]; then
		fail "restore $* ends with $status"
	elif [[ $(wc -l <"$dir/out") -ne 1 ]]; then
		fail "restore $*: not one line of JSON"
	elif [[ $(field pages_wrong) != 0 || $(field pages_verified) != "$want" ]]; then
		fail "restore $*: $(field pages_wrong) of $(field pages_verified) wrong, $(field pages_touched) touched"
	fi
}

# refused STATUS TEXT COMMAND...: ends with STATUS, and stderr has TEXT
refused()
{
	local want=$1 text=$2 status
	shift 2
	"$@" >"$dir/out" 2>"$dir/err"
	status=$?
	[[ $status -eq $want ]] || fail "'${*:2}' ends with $status, not $want"
	grep -qF -- "$text" "$dir/err" || fail "'${*:2}' does not say '$text'"
}

# Random contents, with a hole of 64 KiB that a sparse file has too.
head -c $((16 << 20)) /dev/urandom >"$dir/image"
dd if=/dev/zero of="$dir/zeros" bs=64K count=1 status=none
dd if="$dir/zeros" of="$dir/image" bs=64K seek=5 conv=notrunc status=none
fallocate --punch-hole --offset $((1 << 20)) --length $((128 << 10)) "$dir/image" 2>/dev/null ||
	echo "no holes in this file system: the image has none"
