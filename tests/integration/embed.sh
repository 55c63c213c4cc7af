#!/bin/bash
# SPDX-License-Identifier: MIT
# What the smallest embedder copies, page by touched page, is the file.
# usage: embed.sh EXAMPLE MKIMAGE
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$2" "$work/image" 16M
if ! timeout 50 "$1" "$work/image" >"$work/copy" 2>"$work/errors"; then
	if grep -qE 'userfaultfd|minor faults' "$work/errors"; then
		echo "SKIP: $(cat "$work/errors")"
		exit 77
	fi
	cat "$work/errors"
	exit 1
fi
cmp "$work/image" "$work/copy"
