// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A synthetic scene with the properties that make real video hard to code: sub-pixel pans of detailed
//! texture at two depths, objects that cover and uncover it, a cut, and film-like grain.
//!
//! Integer arithmetic only: the same frames come out on every machine.

use crate::random::Random;

/// Edge of the square texture and grain tiles, in samples; a power of two, so that wrapping is a mask.
const TILE: usize = 1024;
/// Edge length of the coarsest lattice cell of the texture, in samples.
const COARSEST_CELL: usize = 128;
/// Number of moving discs.
const DISCS: usize = 9;

/// A disc that bounces between the picture's edges.
struct Disc {
    radius: i64,
    start: (i64, i64),
    /// Quarter samples per frame.
    speed: (i64, i64),
    luma: i64,
    chroma: (u8, u8),
}

/// The scene for one picture size.
pub(super) struct Scene {
    width: usize,
    height: usize,
    /// First frame after the cut.
    cut: usize,
    texture: Vec<u8>,
    grain: Vec<i8>,
    discs: Vec<Disc>,
}

impl Scene {
    /// Prepares textures and objects. `width` and `height` are in samples, `frames` places the cut.
    pub(super) fn new(width: usize, height: usize, frames: usize) -> Self {
        let mut random = Random::new(0x00da_eda1_u64.wrapping_mul(width as u64 + 1) ^ height as u64);
        let texture = texture(&mut random);
        let grain = (0..TILE * TILE)
            .map(|_| {
                let bits = random.next();
                let sum: i32 = (0..4).map(|i| ((bits >> (i * 8)) & 15) as i32 - 7).sum();
                (sum / 4) as i8
            })
            .collect();
        let short = width.min(height) as u64;
        let discs = (0..DISCS)
            .map(|_| Disc {
                radius: (short / 24) as i64 + random.below(short / 8 + 1) as i64,
                start: (
                    random.below(width as u64) as i64 * 4,
                    random.below(height as u64) as i64 * 4,
                ),
                speed: (random.below(61) as i64 - 30, random.below(41) as i64 - 20),
                luma: random.below(120) as i64 - 60,
                chroma: (64 + random.below(128) as u8, 64 + random.below(128) as u8),
            })
            .collect();
        Self {
            width,
            height,
            cut: frames * 2 / 3,
            texture,
            grain,
            discs,
        }
    }

    /// Appends frame `t` as packed I420, limited range.
    pub(super) fn render(&self, t: usize, out: &mut Vec<u8>) {
        let (width, height) = (self.width, self.height);
        // After the cut the camera looks elsewhere and pans the other way.
        let (pan, scene_offset) = if t < self.cut {
            (t as i64, 0)
        } else {
            (-(t as i64), 613)
        };
        let grain_seed = Random::new(t as u64 * 7919 + 17).next() as usize;
        let luma_start = out.len();
        out.resize(luma_start + width * height, 0);
        for y in 0..height {
            let row = &mut out[luma_start + y * width..][..width];
            let grain_row = ((y + (grain_seed >> 20)) % TILE) * TILE;
            let gradient = (y * 70 / height) as i64;
            for (x, sample) in row.iter_mut().enumerate() {
                let near = self.is_near(x, y, pan, scene_offset);
                let texel = if near {
                    self.sample(x as i64 * 8 + pan * 29 + scene_offset, y as i64 * 8 + pan * 5) * 3 / 4 + 20
                } else {
                    self.sample(x as i64 * 4 + pan * 9 + scene_offset * 4, y as i64 * 4 + pan * 3) / 2
                        + gradient
                        + 60
                };
                let grain = i64::from(self.grain[grain_row + (x + grain_seed) % TILE]);
                // Grain is strongest in the mid-tones, as on film.
                let weight = 128 - (texel - 128).abs() / 2;
                *sample = (texel + grain * weight / 96).clamp(16, 235) as u8;
            }
        }
        let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
        let chroma_start = out.len();
        out.resize(chroma_start + 2 * cw * ch, 0);
        for plane in 0..2 {
            let base = chroma_start + plane * cw * ch;
            let shift = 301 + 211 * plane as i64;
            for y in 0..ch {
                for x in 0..cw {
                    let near = self.is_near(x * 2, y * 2, pan, scene_offset);
                    let speed = if near { 15 } else { 5 };
                    let hue = self.sample(
                        x as i64 * 2 + pan * speed + shift * 4,
                        y as i64 * 2 + pan * 2 + shift,
                    ) - 128;
                    let tint = if near {
                        14 - 28 * plane as i64
                    } else {
                        10 * plane as i64 - 4
                    };
                    out[base + y * cw + x] = (128 + hue / 3 + tint).clamp(16, 240) as u8;
                }
            }
        }
        for disc in &self.discs {
            self.draw(disc, t, &mut out[luma_start..]);
        }
    }

    /// Returns whether the near layer (a ridge that rises and falls along x) covers this place.
    fn is_near(&self, x: usize, y: usize, pan: i64, offset: i64) -> bool {
        let along = (x as i64 + pan * 7 + offset).rem_euclid(TILE as i64) as usize;
        let ridge = usize::from(self.texture[along]) * self.height / 1024;
        y > self.height * 11 / 20 + ridge
    }

    /// Returns the texture at quarter-sample coordinates, bilinear, wrapping; 0..=255.
    fn sample(&self, x4: i64, y4: i64) -> i64 {
        let mask = TILE as i64 - 1;
        let (fx, fy) = (x4 & 3, y4 & 3);
        let (x0, y0) = (((x4 >> 2) & mask) as usize, ((y4 >> 2) & mask) as usize);
        let (x1, y1) = ((x0 + 1) % TILE, (y0 + 1) % TILE);
        let at = |x: usize, y: usize| i64::from(self.texture[y * TILE + x]);
        let top = at(x0, y0) * (4 - fx) + at(x1, y0) * fx;
        let bottom = at(x0, y1) * (4 - fx) + at(x1, y1) * fx;
        (top * (4 - fy) + bottom * fy) >> 4
    }

    /// Draws a disc with a striped, translucent face into one I420 frame.
    fn draw(&self, disc: &Disc, t: usize, frame: &mut [u8]) {
        let bounce = |start: i64, speed: i64, length: usize| {
            let span = length as i64 * 4;
            let at = (start + speed * t as i64).rem_euclid(2 * span);
            (if at < span { at } else { 2 * span - at }) / 4
        };
        let (cx, cy) = (
            bounce(disc.start.0, disc.speed.0, self.width),
            bounce(disc.start.1, disc.speed.1, self.height),
        );
        let (cw, ch) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let (luma, chroma) = frame.split_at_mut(self.width * self.height);
        for y in (cy - disc.radius).max(0)..(cy + disc.radius).min(self.height as i64) {
            for x in (cx - disc.radius).max(0)..(cx + disc.radius).min(self.width as i64) {
                let (dx, dy) = (x - cx, y - cy);
                let distance = dx * dx + dy * dy;
                if distance >= disc.radius * disc.radius {
                    continue;
                }
                let stripe = if (dx + dy + t as i64).rem_euclid(16) < 8 {
                    24
                } else {
                    -24
                };
                let shade = disc.luma + stripe - 40 * distance / (disc.radius * disc.radius);
                let sample = &mut luma[y as usize * self.width + x as usize];
                *sample = (i64::from(*sample) / 2 + 64 + shade).clamp(16, 235) as u8;
                if x % 2 == 0 && y % 2 == 0 {
                    let at = (y / 2) as usize * cw + (x / 2) as usize;
                    chroma[at] = disc.chroma.0;
                    chroma[cw * ch + at] = disc.chroma.1;
                }
            }
        }
    }
}

/// Makes wrapping value noise of seven octaves, stretched to the whole range.
fn texture(random: &mut Random) -> Vec<u8> {
    let mut sum = vec![0i32; TILE * TILE];
    let mut cell = COARSEST_CELL;
    let mut amplitude = 48i32;
    while cell >= 2 {
        let n = TILE / cell;
        let lattice: Vec<i32> = (0..n * n).map(|_| random.below(256) as i32).collect();
        let ease: Vec<i32> = (0..cell).map(|i| ease(i, cell)).collect();
        for y in 0..TILE {
            let (gy, wy) = (y / cell, ease[y % cell]);
            for x in 0..TILE {
                let (gx, wx) = (x / cell, ease[x % cell]);
                let at = |x: usize, y: usize| lattice[(y % n) * n + x % n];
                let top = at(gx, gy) * (256 - wx) + at(gx + 1, gy) * wx;
                let bottom = at(gx, gy + 1) * (256 - wx) + at(gx + 1, gy + 1) * wx;
                sum[y * TILE + x] += (((top >> 8) * (256 - wy) + (bottom >> 8) * wy) >> 8) * amplitude;
            }
        }
        cell /= 2;
        amplitude = amplitude * 3 / 4;
    }
    let (low, high) = sum
        .iter()
        .fold((i32::MAX, i32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    sum.iter()
        .map(|v| (i64::from(v - low) * 255 / i64::from((high - low).max(1))) as u8)
        .collect()
}

/// Returns the smoothstep of `i / cell` in 1/256, from integers.
fn ease(i: usize, cell: usize) -> i32 {
    let t = (i * 256 / cell) as i32;
    t * t * (768 - 2 * t) / (256 * 256)
}
