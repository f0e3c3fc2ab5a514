#!/bin/sh
# Runs a linker's command line with one thing added: the functions that a start of cell-wasm goes through lie side by side, at
# the front. The kernel maps a file in pieces of 64 KiB, so that 0.4 MiB of code scattered over 16 MiB cost each start 75 page
# faults and 5 MiB of memory. startup.order names those functions, match.awk finds them among what is linked. A linker that
# takes no order makes the same program, which is only slower to start.
room=$(dirname "$0")
order=$(mktemp) || exec "$@"
trap 'rm -f "$order"' EXIT
for input in "$@"; do
    case $input in *.o | *.rlib) printf '%s\n' "$input" ;; esac
done | xargs -d '\n' readelf -sW 2>/dev/null | awk -f "$room/match.awk" "$room/startup.order" - >"$order"
"$@" "--symbol-ordering-file=$order" --no-warn-symbol-ordering || { rm -f "$order"; exec "$@"; }
