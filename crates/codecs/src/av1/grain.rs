// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Film grain parameters (5.9.30).

use daedalus_uapi::v4l2_controls::*;

use super::error::{Av1Error, at_most};
use super::sequence::SequenceInfo;
use crate::bits::BitWriter;

/// `film_grain_params()` of a frame that is or may be shown, in a sequence that has film grain.
pub(super) fn write(
    w: &mut BitWriter<'_>,
    sequence: &SequenceInfo,
    inter_frame: bool,
    control: Option<&V4l2CtrlAv1FilmGrain>,
) -> Result<(), Av1Error> {
    let applied = control.filter(|c| c.flags & V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN != 0);
    w.flag(applied.is_some());
    let Some(grain) = applied else { return Ok(()) };
    let flag = |f: u8| grain.flags & f != 0;

    w.bits(16, grain.grain_seed.into());
    if inter_frame {
        let update_grain = true;
        w.flag(update_grain);
    }
    let luma_points = at_most("num_y_points", grain.num_y_points, 14)? as usize;
    w.bits(4, luma_points as u64);
    points(
        w,
        "point_y_value",
        &grain.point_y_value,
        &grain.point_y_scaling,
        luma_points,
    )?;

    let from_luma = !sequence.mono_chrome && flag(V4L2_AV1_FILM_GRAIN_FLAG_CHROMA_SCALING_FROM_LUMA);
    if !sequence.mono_chrome {
        w.flag(from_luma);
    }
    let no_chroma_points =
        sequence.mono_chrome || from_luma || (sequence.subsampling == (true, true) && luma_points == 0);
    let (mut cb_points, mut cr_points) = (0, 0);
    if !no_chroma_points {
        cb_points = at_most("num_cb_points", grain.num_cb_points, 10)? as usize;
        w.bits(4, cb_points as u64);
        points(
            w,
            "point_cb_value",
            &grain.point_cb_value,
            &grain.point_cb_scaling,
            cb_points,
        )?;
        cr_points = at_most("num_cr_points", grain.num_cr_points, 10)? as usize;
        w.bits(4, cr_points as u64);
        points(
            w,
            "point_cr_value",
            &grain.point_cr_value,
            &grain.point_cr_scaling,
            cr_points,
        )?;
    }

    w.bits(
        2,
        at_most("grain_scaling_minus_8", grain.grain_scaling_minus_8, 3)?,
    );
    let lag = at_most("ar_coeff_lag", grain.ar_coeff_lag, 3)? as usize;
    w.bits(2, lag as u64);
    let luma_coefficients = 2 * lag * (lag + 1);
    let chroma_coefficients = luma_coefficients + usize::from(luma_points > 0);
    let mut coefficients = |list: &[u8; V4L2_AV1_AR_COEFFS_SIZE], count: usize| {
        list.iter().take(count).for_each(|&c| w.bits(8, c.into()));
    };
    if luma_points > 0 {
        coefficients(&grain.ar_coeffs_y_plus_128, luma_coefficients);
    }
    if from_luma || cb_points > 0 {
        coefficients(&grain.ar_coeffs_cb_plus_128, chroma_coefficients);
    }
    if from_luma || cr_points > 0 {
        coefficients(&grain.ar_coeffs_cr_plus_128, chroma_coefficients);
    }
    w.bits(
        2,
        at_most("ar_coeff_shift_minus_6", grain.ar_coeff_shift_minus_6, 3)?,
    );
    w.bits(2, at_most("grain_scale_shift", grain.grain_scale_shift, 3)?);
    if cb_points > 0 {
        w.bits(8, grain.cb_mult.into());
        w.bits(8, grain.cb_luma_mult.into());
        w.bits(9, at_most("cb_offset", grain.cb_offset, 511)?);
    }
    if cr_points > 0 {
        w.bits(8, grain.cr_mult.into());
        w.bits(8, grain.cr_luma_mult.into());
        w.bits(9, at_most("cr_offset", grain.cr_offset, 511)?);
    }
    w.flag(flag(V4L2_AV1_FILM_GRAIN_FLAG_OVERLAP));
    w.flag(flag(V4L2_AV1_FILM_GRAIN_FLAG_CLIP_TO_RESTRICTED_RANGE));
    Ok(())
}

/// The points of one scaling function, whose positions must increase (6.8.20).
fn points(
    w: &mut BitWriter<'_>,
    field: &'static str,
    values: &[u8; 16],
    scalings: &[u8; 16],
    count: usize,
) -> Result<(), Av1Error> {
    let mut lowest = 0u16;
    for (&value, &scaling) in values.iter().zip(scalings).take(count) {
        if u16::from(value) < lowest {
            return Err(Av1Error::OutOfRange {
                field,
                value: value.into(),
            });
        }
        lowest = u16::from(value) + 1;
        w.bits(8, value.into());
        w.bits(8, scaling.into());
    }
    Ok(())
}
