# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash
# What jobs in the guest share: loading the module, starting and stopping the daemon, finding the nodes.
# DAEDALUS_KERNEL is plain, sanitizers or coverage.

# What was counted, of all times that the module was loaded, is kept until the guest ends.
if [ "$DAEDALUS_KERNEL" = coverage ]; then
	daedalus_keep_counts() {
		local file
		mkdir -p /mnt/out/gcov
		# Their size is shown as 0.
		find /sys/kernel/debug/gcov -name 'daedalus*.gcda' | while read -r file; do
			cat "$file" >"/mnt/out/gcov/${file##*/}"
		done
	}
	trap daedalus_keep_counts EXIT
fi

# A picture of 7680x4320 with 10 bit has 100 MB, and udmabuf gives 64 as it comes.
if [ -w /sys/module/udmabuf/parameters/size_limit_mb ]; then
	echo 256 >/sys/module/udmabuf/parameters/size_limit_mb
fi

# daedalus_load [PARAMETER=VALUE …]: loads the module and what it needs.
daedalus_load() {
	local needs
	needs=$(modinfo -F depends /mnt/modules/daedalus_v4l2.ko | tr ',' ' ')
	for name in $needs; do modprobe -d /mnt/modules "$name"; done
	# Under sanitizers everything takes several times as long; what is given here overrides it.
	local relaxed=()
	[ "$DAEDALUS_KERNEL" = sanitizers ] && relaxed=(watchdog_ms=5000 drain_ms=500 worker_wait_ms=3000)
	insmod /mnt/modules/daedalus_v4l2.ko "${relaxed[@]}" "$@"
}

# daedalus_nodes: prints the video and the media node of the device, found by the driver's name.
daedalus_nodes() {
	local device=/sys/bus/platform/drivers/daedalus video media
	for video in "$device"/*/video4linux/video*; do
		for media in "$device"/*/media[0-9]*; do
			video=/dev/${video##*/} media=/dev/${media##*/}
			[ -c "$video" ] && [ -c "$media" ] && echo "$video $media" && return 0
		done
	done
	return 1
}

# daedalus_start [ARGUMENT …]: loads the module if it is not there, starts the broker with these arguments and
# waits until both nodes are there. Exports DAEDALUS_VIDEO, DAEDALUS_MEDIA and DAEDALUS_BROKER (its process
# id).
daedalus_start() {
	[ -d /sys/module/daedalus_v4l2 ] || daedalus_load
	daedalusd broker "$@" >>/mnt/out/daedalusd.log 2>&1 &
	export DAEDALUS_BROKER=$!
	local nodes end=$((SECONDS + 60))
	while [ "$SECONDS" -lt "$end" ]; do
		if nodes=$(daedalus_nodes); then
			export DAEDALUS_VIDEO=${nodes% *} DAEDALUS_MEDIA=${nodes#* }
			return 0
		fi
		if ! kill -0 "$DAEDALUS_BROKER" 2>/dev/null; then
			echo "daedalusd ended before the device appeared; its last words:" >&2
			tail -n 20 /mnt/out/daedalusd.log >&2
			return 1
		fi
		sleep 0.1
	done
	echo "no video and media node of the daedalus driver after 60 s" >&2
	tail -n 20 /mnt/out/daedalusd.log >&2
	return 1
}

# daedalus_stop: ends the broker by SIGTERM; its exit status.
daedalus_stop() {
	kill -TERM "$DAEDALUS_BROKER"
	wait "$DAEDALUS_BROKER"
}

# daedalus_left: fails if dmabufs, or processes of daemon or clients, are still there after ten seconds, and
# says which. There is no other exporter of dmabufs in the guest.
daedalus_left() {
	local try total processes
	for try in $(seq 200); do
		total=$(tail -n 1 /sys/kernel/debug/dma_buf/bufinfo)
		processes=$(ps -eo stat=,pid=,comm= | awk '$3 ~ /^daedalus/ && $1 !~ /^Z/')
		[[ $total == 'Total 0 objects,'* && -z $processes ]] && return
		sleep 0.05
	done
	echo "left behind: dmabufs: $total; processes: ${processes:-none}" >&2
	return 1
}

# daedalus_unload: removes the module; fails if something still holds it after a second, and says who, or if
# something was left behind by whoever used it. The last request holds it for a grace period of RCU.
daedalus_unload() {
	local fd try
	daedalus_left
	for try in $(seq 20); do
		rmmod daedalus_v4l2 2>/tmp/rmmod.txt && return
		sleep 0.05
	done
	cat /tmp/rmmod.txt >&2
	for fd in /proc/[0-9]*/fd/*; do
		case $(readlink "$fd") in
		*daedalus* | /dev/video* | /dev/media*)
			echo "$fd -> $(readlink "$fd"): $(head -n 3 "${fd%/fd/*}/status" | tr '\n' ' ')" >&2
			;;
		esac
	done
	return 1
}
