# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash disable=SC2154
# The guest's part of `./dev command-line`, which sets clips, long and codecs. What is put over a file is
# taken off again.

# broken NAME [ARGUMENT …]: doctor must fail.
broken() {
	local name=$1
	shift
	if daedalus doctor "$@" >"$name.txt"; then
		echo "doctor finds nothing wrong: $name" >&2
		return 1
	fi
}

zcat /proc/config.gz | grep -v '^CONFIG_VIDEO_DEV=' | gzip >/tmp/config.gz
mount --bind /tmp/config.gz /proc/config.gz
broken kernel-without-video-core
umount /proc/config.gz

broken no-module
daedalus abort 1 2>abort.txt && exit 1
grep -q 'not loaded' abort.txt
daedalus status >unloaded.txt && exit 1
mkdir /tmp/cdi
echo old >/tmp/cdi/daedalus.json
daedalus cdi --output /tmp/cdi/daedalus.json && exit 1
[ ! -e /tmp/cdi/daedalus.json ]

daedalus_load
broken no-daemon

daedalus_start
broken wrong-group-of-nodes
chgrp video "$DAEDALUS_VIDEO" "$DAEDALUS_MEDIA"
chmod 660 "$DAEDALUS_VIDEO" "$DAEDALUS_MEDIA"
broken wrong-group-of-user --user nobody
daedalus doctor --user root >healthy.txt
daedalus doctor --json >healthy.json
daedalus cdi --output /tmp/cdi/daedalus.json
cp /tmp/cdi/daedalus.json cdi.json
echo "$DAEDALUS_VIDEO $DAEDALUS_MEDIA" >cdi-nodes.txt

# A library that is hidden: the daemon's own ones, and one of those that libavcodec is linked with.
ldd "$(command -v daedalus)" >linked.txt
for pair in libavcodec:codec-library-missing libdav1d:second-library-missing \
	libvpx:library-of-a-library-missing; do
	library=$(ldd "$(command -v daedalusd)" |
		awk -v name="${pair%:*}" 'index($1, name ".so.") == 1 { print $3 }')
	library=$(readlink -f "$library")
	mount --bind /dev/null "$library"
	broken "${pair#*:}"
	daedalusd --version >/dev/null 2>&1 && exit 1
	umount "$library"
done

# A clip of each codec.
daedalus verify "${clips[@]}" >verify.txt
for clip in "${clips[@]}"; do
	daedalus decode "$clip" -o /tmp/picture.png --frame 3
done
daedalus decode "${clips[0]}" -o /tmp/clip.y4m --json
head -c 9 /tmp/clip.y4m | grep -q YUV4MPEG2
rm /tmp/clip.y4m

# The containers that people have, with another track in front. A raw stream's units have no timestamps.
for container in mp4 mkv ts; do
	ffmpeg -nostdin -v error -f lavfi -i anullsrc -i "${clips[0]}" -map 0:a -map 1:v -shortest \
		-c:a mp2 -c:v copy -bsf:v setts=ts=N*48000 "/tmp/clip.$container"
done
daedalus verify /tmp/clip.mp4 /tmp/clip.mkv /tmp/clip.ts >verify-containers.txt
ffmpeg -nostdin -v error -f lavfi -i anullsrc -t 1 -c:a mp2 /tmp/sound.mp4
if daedalus verify /tmp/sound.mp4 >sound.txt; then exit 1; fi
grep -q 'qtdemux finds no video of .* in /tmp/sound.mp4: ' sound.txt
rm /tmp/clip.* /tmp/sound.mp4

daedalus bench "${clips[0]}" --runs 1 --json >bench.json
daedalus bench "${clips[0]}" --runs 1 --pi-report >bench.md

# Three clients, each over and over.
for clip in "${long[@]}"; do
	case $clip in
	*.ivf) source=ivfparse ;;
	*) source=identity ;;
	esac
	codec=$(basename "$clip" | grep -oE "$(IFS='|' && echo "${codecs[*]}")" | head -n 1)
	while [ ! -e /tmp/enough ]; do
		gst-launch-1.0 -q filesrc "location=$clip" ! $source ! parsebin ! "v4l2sl${codec}dec" ! \
			fakesink >>players.log 2>&1 || exit 1
	done &
done
# seen FILE COMMAND…: until it shows all three decode at a known rate.
seen() {
	local file=$1 try
	shift
	for try in $(seq 20); do
		"$@" >"$file"
		[ "$(grep -c 'gst-launch-1.0\[.* streaming .*[0-9]$' "$file")" = 3 ] && return 0
	done
	echo "never three clients after $try tries: $file" >&2
	return 1
}
seen status.txt daedalus status --interval 1
seen top.txt daedalus top --once
daedalus metrics --listen unix:/tmp/metrics &
server=$!
for _ in $(seq 50); do [ -S /tmp/metrics ] && break; sleep 0.1; done
for _ in $(seq 20); do
	perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Peer => "/tmp/metrics") or die;
		print $s "GET /metrics HTTP/1.0\r\n\r\n"; print <$s>' >metrics.txt
	[ "$(grep -c '^daedalus_session_jobs_done_total{' metrics.txt)" = 3 ] && break
done
kill "$server"
touch /tmp/enough
sleep 1
# The last players may have ended.
id=$(daedalus status --json | grep -o '"id":[0-9]*' | head -n 1 | cut -d: -f2) || true
if [ -n "$id" ]; then daedalus abort "$id" || true; fi
if daedalus abort 999999 2>abort.txt; then exit 1; fi
grep -q 'no session 999999' abort.txt
# Without systemd there is no service that could record, and nothing is made.
if daedalus trace record /tmp/recorded 2>record.txt; then exit 1; fi
grep -q 'the service does not run' record.txt
if daedalus trace record '/tmp/a b' 2>record.txt; then exit 1; fi
grep -q "' ' means something else" record.txt
[ ! -e /tmp/recorded ]

# A broker that another one is to follow says so by its status; a session that plays keeps its worker.
sessions=/sys/kernel/debug/daedalus/sessions
until [ -z "$(cat "$sessions")" ]; do sleep 0.1; done
gst-launch-1.0 -q filesrc "location=${clips[0]}" ! "${codecs[0]}parse" ! identity sleep-time=200000 ! \
	"v4l2sl${codecs[0]}dec" ! fakesink >>players.log 2>&1 &
player=$!
until grep -q ' worker=[1-9].* done=[1-9]' "$sessions"; do sleep 0.1; done
cat "$sessions" >replaced.txt
status=0
kill -USR1 "$DAEDALUS_BROKER"
wait "$DAEDALUS_BROKER" || status=$?
[ "$status" = 75 ]
daedalus_start
sleep 3
cat "$sessions" >>replaced.txt
wait "$player"
# Its worker is not this broker's, so nobody waits for it.
while pgrep -x daedalus-worker >/dev/null; do sleep 0.1; done
daedalus_stop

# Beside another decoder, whose nodes have the first numbers. Each broker is started as the service does.
daedalus_unload
modprobe -d /mnt/modules visl
hardware=/run/daedalus-v4l2-hardware
daedalusd hardware --output "$hardware"
cp "$hardware" hardware.txt
daedalus_load
timeout 30 daedalusd broker --hardware "$hardware" >all-left.txt 2>&1
timeout 30 daedalusd broker >all-left-asked.txt 2>&1
daedalus doctor >all-left-doctor.txt
daedalus_nodes && exit 1
# offered NAME [ARGUMENT …]: what clients find.
offered() {
	local name=$1
	shift
	daedalus_start "$@"
	v4l2-ctl -d "$DAEDALUS_VIDEO" --list-formats-out >"offered-$name.txt"
	echo "$DAEDALUS_VIDEO" >>"offered-$name.txt"
}
echo 'codecs = all' >/tmp/all.conf
offered all --config /tmp/all.conf --hardware "$hardware"
daedalus verify "${clips[0]}" >verify-beside.txt
daedalus_stop
(IFS=, && echo "codecs = ${codecs[*]:1}" >/tmp/list.conf)
offered list --config /tmp/list.conf --hardware "$hardware"
daedalus_stop
echo "/dev/video10 bcm2835-codec ${codecs[0]}" >/tmp/first
offered rest --hardware /tmp/first
daedalus_stop
printf '# mine\ncodecs = %s, nosuch\n' "${codecs[0]}" >/tmp/bad.conf
timeout 30 daedalusd broker --config /tmp/bad.conf >bad-config.txt 2>&1 && exit 1
daedalus_unload
