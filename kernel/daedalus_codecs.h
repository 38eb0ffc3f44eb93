/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The codecs, for daedalus_codec.[ch], which define DAEDALUS_CODEC() and include this,
 * and for Kbuild. Each is a struct daedalus_<name>, in daedalus_<name>.c.
 */
DAEDALUS_CODEC(h264)
DAEDALUS_CODEC(vp9)
DAEDALUS_CODEC(av1)
DAEDALUS_CODEC(vp8)
DAEDALUS_CODEC(mpeg2)
DAEDALUS_CODEC(hevc)
