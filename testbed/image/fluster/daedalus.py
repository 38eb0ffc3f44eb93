# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Decoders for fluster: GStreamer's V4L2 stateless elements in the guest of the daedalus image.

Copy or link this file into fluster's fluster/decoders/, and set DAEDALUS_RUN to the image's `run`. Every
vector boots a guest of its own, so vectors can run side by side and one cannot disturb another.
"""

import os
import re
import shutil
import subprocess
from functools import lru_cache

from fluster.codec import Codec, OutputFormat
from fluster.decoder import Decoder, NotSupportedError, register_decoder

RUN = os.environ.get("DAEDALUS_RUN", "run")
FORMATS = {OutputFormat.YUV420P: "I420", OutputFormat.YUV420P10LE: "I420_10LE"}
CHECKSUM = re.compile(r"conformance/checksum, checksum-type=\(string\)MD5, checksum=\(string\)([0-9a-f]{32})")


class Daedalus(Decoder):
    """What the codecs have in common."""

    element = ""
    hw_acceleration = True

    def __init__(self):
        self.name = f"daedalus-GStreamer-{self.codec.value}"
        self.description = f"daedalus {self.codec.value} through GStreamer's {self.element}, in a guest"
        super().__init__()

    def decode(
        self,
        input_filepath,
        output_filepath,
        output_format,
        timeout,
        verbose,
        keep_files,
        optional_params=None,
    ):
        if output_format not in FORMATS:
            raise NotSupportedError(f"the device has no {output_format.value}")
        path = os.path.realpath(input_filepath)
        # videocodectestsink takes the checksum of the pictures as they are in memory, packed.
        command = [RUN, "--timeout", str(timeout), "--", "gst-launch-1.0", "-m", "--no-fault"]
        command += ["filesrc", f"location={path}", "!", "parsebin", "!", self.element, "!"]
        command += ["videoconvert", "dither=none", "!", f"video/x-raw,format={FORMATS[output_format]}", "!"]
        command += ["videocodectestsink"]
        if keep_files:
            # The directory must be visible in the guest; the vector's is, for it is the working directory.
            command[1:1] = ["--mount", os.path.dirname(os.path.abspath(output_filepath))]
            command.append(f"location={os.path.abspath(output_filepath)}")
        # `run` ends the guest; that it ends itself is only made sure of.
        done = subprocess.run(
            command,
            cwd=os.path.dirname(path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=timeout + 30,
            check=False,
        )
        if verbose:
            print(done.stdout, done.stderr, sep="\n")
        if done.returncode == 124:
            raise subprocess.TimeoutExpired(command, timeout)
        if done.returncode != 0:
            raise RuntimeError(f"exit status {done.returncode}: {done.stderr[-500:]}")
        found = CHECKSUM.search(done.stdout)
        if not found:
            raise RuntimeError("no checksum: no picture was decoded")
        return found.group(1)

    @lru_cache(maxsize=128)
    def check(self, verbose):
        if shutil.which(RUN) is None:
            if verbose:
                print("DAEDALUS_RUN must name the `run` of an unpacked daedalus image")
            return False
        command = [RUN, "--", "gst-inspect-1.0", "--exists", self.element]
        return subprocess.run(command, check=False).returncode == 0


# GStreamer's names of the codecs, filled in when the image is made; fluster's begin with them.
NAMES = "@NAMES@".split()

for _codec in Codec:
    _name = _codec.name.split("_")[0].lower()
    if _name in NAMES:
        _fields = {"__doc__": _codec.value, "codec": _codec, "element": f"v4l2sl{_name}dec"}
        register_decoder(type(f"Daedalus{_codec.name}", (Daedalus,), _fields))
