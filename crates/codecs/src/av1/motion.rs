// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Global motion parameters (5.9.24, 5.9.25) and the code that they use.

use daedalus_uapi::v4l2_controls::*;

use super::error::{Av1Error, at_most};
use crate::bits::BitWriter;

/// `WARPEDMODEL_PREC_BITS`: fractional bits of a parameter.
const WARPEDMODEL_PREC_BITS: u32 = 16;
/// `LAST_FRAME` to `ALTREF_FRAME`.
const REFERENCES: std::ops::RangeInclusive<usize> = V4L2_AV1_REF_LAST_FRAME..=V4L2_AV1_REF_ALTREF_FRAME;

/// `gm_params`: six parameters for each reference frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GlobalMotion([[i32; 6]; V4L2_AV1_TOTAL_REFS_PER_FRAME]);

impl GlobalMotion {
    /// The parameters that frames start from (7.20, `setup_past_independence`): identity.
    pub(super) const DEFAULT: Self = {
        let one = 1 << WARPEDMODEL_PREC_BITS;
        Self([[0, 0, one, 0, 0, one]; V4L2_AV1_TOTAL_REFS_PER_FRAME])
    };
}

/// `global_motion_params()` of an inter frame. Returns the parameters that the decoder then has.
///
/// `previous` is `PrevGmParams`.
pub(super) fn write(
    w: &mut BitWriter<'_>,
    control: &V4l2Av1GlobalMotion,
    previous: &GlobalMotion,
    allow_high_precision_mv: bool,
) -> Result<GlobalMotion, Av1Error> {
    let mut motion = GlobalMotion::DEFAULT;
    for reference in REFERENCES {
        let kind = control.type_[reference];
        at_most("global_motion.type", kind, V4L2_AV1_WARP_MODEL_AFFINE.into())?;
        let is_global = kind != V4L2_AV1_WARP_MODEL_IDENTITY;
        w.flag(is_global);
        if is_global {
            let is_rot_zoom = kind == V4L2_AV1_WARP_MODEL_ROTZOOM;
            w.flag(is_rot_zoom);
            if !is_rot_zoom {
                let is_translation = kind == V4L2_AV1_WARP_MODEL_TRANSLATION;
                w.flag(is_translation);
            }
        }
        let coded: &[usize] = match kind {
            V4L2_AV1_WARP_MODEL_IDENTITY => &[],
            V4L2_AV1_WARP_MODEL_TRANSLATION => &[0, 1],
            V4L2_AV1_WARP_MODEL_ROTZOOM => &[2, 3, 0, 1],
            _ => &[2, 3, 4, 5, 0, 1],
        };
        let params = &mut motion.0[reference];
        for &index in coded {
            let value = control.params[reference][index];
            let code = ParamCode::new(kind, index, allow_high_precision_mv);
            if !code.write(w, value, previous.0[reference][index]) {
                return Err(Av1Error::GlobalMotion {
                    reference,
                    index,
                    value,
                });
            }
            params[index] = value;
        }
        if kind == V4L2_AV1_WARP_MODEL_ROTZOOM {
            params[4] = -params[3];
            params[5] = params[2];
        }
    }
    Ok(motion)
}

/// The coding of one parameter (`read_global_param`).
struct ParamCode {
    /// Magnitude of the coded value, at most.
    max: i64,
    /// `precDiff`: fractional bits that are not coded.
    dropped_bits: u32,
    /// Value that is coded as 0.
    zero: i64,
}

impl ParamCode {
    fn new(kind: u32, index: usize, allow_high_precision_mv: bool) -> Self {
        let (abs_bits, prec_bits) = match (index < 2, kind == V4L2_AV1_WARP_MODEL_TRANSLATION) {
            (false, _) => (12, 15),
            (true, false) => (12, 6),
            (true, true) => {
                let less = u32::from(!allow_high_precision_mv);
                (9 - less, 3 - less)
            }
        };
        Self {
            max: 1 << abs_bits,
            dropped_bits: WARPEDMODEL_PREC_BITS - prec_bits,
            zero: if index % 3 == 2 {
                1 << WARPEDMODEL_PREC_BITS
            } else {
                0
            },
        }
    }

    /// Writes `value` against the previous frame's; `false` if it cannot be coded.
    fn write(&self, w: &mut BitWriter<'_>, value: i32, previous: i32) -> bool {
        let reduced = |v: i32| (i64::from(v) - self.zero) >> self.dropped_bits;
        let x = reduced(value);
        if x.abs() > self.max || (x << self.dropped_bits) + self.zero != i64::from(value) {
            return false;
        }
        signed_subexp_with_ref(w, -self.max, self.max + 1, reduced(previous), x);
        true
    }
}

/// The inverse of `decode_signed_subexp_with_ref` (5.9.26); `value` is `low` to `high` − 1.
fn signed_subexp_with_ref(w: &mut BitWriter<'_>, low: i64, high: i64, reference: i64, value: i64) {
    let (mx, r, x) = (high - low, reference - low, value - low);
    let v = if r << 1 <= mx {
        recenter(r, x)
    } else {
        recenter(mx - 1 - r, mx - 1 - x)
    };
    subexp(w, mx, v);
}

/// Returns the inverse of `inverse_recenter` (5.9.29): values near `r` get small codes.
fn recenter(r: i64, x: i64) -> i64 {
    if x > 2 * r {
        x
    } else if x >= r {
        (x - r) << 1
    } else {
        ((r - x) << 1) - 1
    }
}

/// The inverse of `decode_subexp` (5.9.28); `value` is 0 to `symbols` − 1.
fn subexp(w: &mut BitWriter<'_>, symbols: i64, value: i64) {
    let (mut i, mut mk, k) = (0, 0, 3);
    loop {
        let b2 = if i > 0 { k + i - 1 } else { k };
        let a = 1i64 << b2;
        if symbols <= mk + 3 * a {
            // At most 8193 symbols: the differences fit.
            w.ns((symbols - mk) as u32, (value - mk) as u32);
            return;
        }
        let more = value >= mk + a;
        w.flag(more);
        if !more {
            w.bits(b2, (value - mk) as u64);
            return;
        }
        i += 1;
        mk += a;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `decode_signed_subexp_with_ref` and what it calls, as the specification writes them.
    struct Decoder<'a> {
        data: &'a [u8],
        position: usize,
    }

    impl Decoder<'_> {
        fn f(&mut self, n: u32) -> i64 {
            (0..n).fold(0, |x, _| {
                let bit = (self.data[self.position / 8] >> (7 - self.position % 8)) & 1;
                self.position += 1;
                2 * x + i64::from(bit)
            })
        }

        fn ns(&mut self, n: i64) -> i64 {
            let w = n.ilog2() + 1;
            let m = (1 << w) - n;
            let v = self.f(w - 1);
            if v < m { v } else { (v << 1) - m + self.f(1) }
        }

        fn subexp(&mut self, num_syms: i64) -> i64 {
            let (mut i, mut mk, k) = (0, 0, 3);
            loop {
                let b2 = if i > 0 { k + i - 1 } else { k };
                let a = 1 << b2;
                if num_syms <= mk + 3 * a {
                    return self.ns(num_syms - mk) + mk;
                } else if self.f(1) == 1 {
                    i += 1;
                    mk += a;
                } else {
                    return self.f(b2) + mk;
                }
            }
        }

        fn signed_subexp_with_ref(&mut self, low: i64, high: i64, r: i64) -> i64 {
            fn inverse_recenter(r: i64, v: i64) -> i64 {
                if v > 2 * r {
                    v
                } else if v & 1 == 1 {
                    r - ((v + 1) >> 1)
                } else {
                    r + (v >> 1)
                }
            }
            let (mx, r) = (high - low, r - low);
            let v = self.subexp(mx);
            let x = if r << 1 <= mx {
                inverse_recenter(r, v)
            } else {
                mx - 1 - inverse_recenter(mx - 1 - r, v)
            };
            x + low
        }
    }

    #[test]
    fn every_parameter_decodes_against_every_kind_of_reference() {
        for max in [1 << 8, 1 << 9, 1 << 12] {
            // References can be out of range: they may come from a model of another precision.
            for reference in [-2 * max, -max, -max / 3, -1, 0, 1, 7, max / 2, max, 3 * max] {
                let mut out = Vec::new();
                let mut w = BitWriter::new(&mut out);
                for value in -max..=max {
                    signed_subexp_with_ref(&mut w, -max, max + 1, reference, value);
                }
                w.align();
                let mut decoder = Decoder {
                    data: &out,
                    position: 0,
                };
                for value in -max..=max {
                    let decoded = decoder.signed_subexp_with_ref(-max, max + 1, reference);
                    assert_eq!(decoded, value, "range {max}, reference {reference}");
                }
            }
        }
    }

    #[test]
    fn parameters_that_have_no_code_are_refused() {
        let mut control = V4l2Av1GlobalMotion::default();
        control.type_[1] = V4L2_AV1_WARP_MODEL_ROTZOOM;
        control.params[1] = [0, 0, 1 << 16, 0, 0, 0];
        let write = |control: &_| {
            let mut out = Vec::new();
            super::write(
                &mut BitWriter::new(&mut out),
                control,
                &GlobalMotion::DEFAULT,
                true,
            )
        };
        assert!(write(&control).is_ok());
        // A rotation has 15 fractional bits, and reaches 1/8.
        for value in [1, (1 << 13) + 2, i32::MAX, i32::MIN] {
            control.params[1][3] = value;
            assert_eq!(
                write(&control),
                Err(Av1Error::GlobalMotion {
                    reference: 1,
                    index: 3,
                    value
                })
            );
        }
        control.params[1][3] = 1 << 13;
        assert!(write(&control).is_ok());
        control.type_[7] = 4;
        assert_eq!(
            write(&control),
            Err(Av1Error::OutOfRange {
                field: "global_motion.type",
                value: 4
            })
        );
    }
}
