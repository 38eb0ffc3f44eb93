// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Converts samples of private frames to those of CAPTURE formats, by loops that the compiler vectorises.

/// Interleaves 8-bit samples: `out` becomes u0 v0 u1 v1 … up to the shortest of the three.
pub(crate) fn interleave_8(u: &[u8], v: &[u8], out: &mut [u8]) {
    for ((pair, &u), &v) in out.chunks_exact_mut(2).zip(u).zip(v) {
        pair[0] = u;
        pair[1] = v;
    }
}

/// Moves 10-bit samples in native byte order to the high bits, little endian, as in P010.
pub(crate) fn raise_10(samples: &[u8], out: &mut [u8]) {
    for (out, sample) in out.chunks_exact_mut(2).zip(samples.chunks_exact(2)) {
        out.copy_from_slice(&raised([sample[0], sample[1]]));
    }
}

/// Interleaves as [`interleave_8`], and moves each sample as [`raise_10`].
pub(crate) fn interleave_10(u: &[u8], v: &[u8], out: &mut [u8]) {
    for ((out, u), v) in out
        .chunks_exact_mut(4)
        .zip(u.chunks_exact(2))
        .zip(v.chunks_exact(2))
    {
        out[..2].copy_from_slice(&raised([u[0], u[1]]));
        out[2..].copy_from_slice(&raised([v[0], v[1]]));
    }
}

fn raised(sample: [u8; 2]) -> [u8; 2] {
    (u16::from_ne_bytes(sample) << 6).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_interleaved() {
        let mut out = [0; 6];
        interleave_8(&[1, 2, 3], &[4, 5, 6], &mut out);
        assert_eq!(out, [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn ten_bit_samples_fill_the_high_bits() {
        let samples: Vec<u8> = [1023u16, 512, 1].iter().flat_map(|s| s.to_ne_bytes()).collect();
        let mut out = [0; 6];
        raise_10(&samples, &mut out);
        assert_eq!(out, [0xc0, 0xff, 0x00, 0x80, 0x40, 0x00]);
        let mut pairs = [0; 12];
        interleave_10(&samples, &samples, &mut pairs);
        assert_eq!(pairs[..8], [0xc0, 0xff, 0xc0, 0xff, 0x00, 0x80, 0x00, 0x80]);
    }
}
