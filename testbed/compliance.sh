# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash
# v4l2-compliance on the stateful node, for scripts that source this. The node has to offer one codec alone:
# v4l2-compliance takes it for no decoder if it does not know one of the coded formats.

# stateful_node: prints the node, once it can be opened.
stateful_node() {
	local name node
	name=$(grep -l stateful /sys/class/video4linux/*/name) || return 1
	name=${name%/name}
	node=/dev/${name##*/}
	v4l2-ctl -d "$node" --info >/dev/null 2>&1 && echo "$node"
}

# stateful_compliance WAY NODE RAW FRAMED [FRAMES]: runs v4l2-compliance in one of these ways: plain, without
# a stream; units, with a stream that has a size before each unit; bytes, with one that may be cut anywhere. A
# failing test is its exit status, and what it prints says more.
stateful_compliance() {
	local options=()
	case $1 in
	units) options=(-s "${5-60}" "--stream-from-hdr=$4") ;;
	# Each second buffer holds the whole clip, since buffers are larger than it.
	bytes) options=(-s 10 "--stream-from=$3") ;;
	esac
	timeout 120 v4l2-compliance -d "$2" "${options[@]}" 2>&1 || true
}

# stateful_conforms NODE WAY LOG RAW FRAMED [FRAMES]: nothing fails, and nothing warns. Status 77: this
# v4l2-compliance does not know the coded format.
stateful_conforms() {
	stateful_compliance "$2" "$1" "${@:4}" >"$3"
	cat "$3"
	grep -q 'Detected Stateful Decoder' "$3" || return 77
	grep -q 'Failed: 0, Warnings: 0' "$3"
}

# stateful_all NODE PREFIX RAW FRAMED [FRAMES]: all ways, or those of STATEFUL_WAYS; bytes only if the stream
# may be cut anywhere. Logs are PREFIX-WAY.txt. Writes to "$note" how many tests there were. Status 77: as
# stateful_conforms.
stateful_all() {
	local way status
	for way in ${STATEFUL_WAYS-plain units bytes}; do
		[ "$way,${3##*.}" != bytes,ivf ] || continue
		status=0
		stateful_conforms "$1" "$way" "$2-$way.txt" "${@:3}" || status=$?
		[ "$status" != 77 ] || echo "this v4l2-compliance does not know the coded format" >"$note"
		[ "$status" = 0 ] || return "$status"
		echo "$way $(tail -n 1 "$2-$way.txt" | sed 's/^[^:]*: //') " >>"$note"
	done
}
