# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash
# Checks that a guest makes, for scripts that source this. $out is the directory for what comes of them:
# checks.tsv has a line for each check that has ended (name, verdict, begin, end, note), log/ what its
# commands printed. $note is a file for the note of the check that runs. $script is the sourcing script, which
# runs one command with its functions when its first argument is `step`.
mkdir -p "$out/log"
cd "$out/log" || exit 1

# check NAME COMMAND…: a check with a log of its own; its note is what the command writes to "$note", or else
# the last lines of the log of one that failed. Its status is the command's. A command that finds that it
# cannot look ends with status 77, and the note says why: the check is skipped.
check() {
	local name=$1 log begin status verdict=passed text
	shift
	log=$out/log/${name//[^A-Za-z0-9.]/-}.log
	: >"$note"
	begin=$EPOCHREALTIME
	# Another shell: a function that is part of a condition would not end where one of its commands fails.
	bash -eu -o pipefail "$script" step "$@" >"$log" 2>&1 </dev/null
	status=$?
	text=$(cat "$note")
	if [ "$status" = 77 ]; then
		verdict=skipped
	elif [ "$status" != 0 ]; then
		verdict=failed
		text="status $status: $(tail -n 6 "$log" | tr '\n' '|') $text"
	fi
	ended "$name" "$verdict" "$begin" "$EPOCHREALTIME" "$(echo "$text" | tr '\n\t' '  ')"
	echo "bed: $verdict: $name"
	return "$status"
}

# ended NAME VERDICT BEGIN END NOTE: a check that has ended.
ended() {
	printf '%s\t%s\t%s\t%s\t%s\n' "$@" >>"$out/checks.tsv"
}

skip() {
	ended "$1" skipped 0 0 "$2"
}

# until_true SECONDS COMMAND…
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.5
	done
}

# tried COMMAND…: up to three minutes long, and says how often. GStreamer gives up a picture after a second,
# and to start a worker in an emulator takes longer while the machine has other work.
tried() {
	local end=$((SECONDS + 180)) tries=1
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		tries=$((tries + 1))
	done
	[ "$tries" = 1 ] || echo "at try $tries: " >>"$note"
}
