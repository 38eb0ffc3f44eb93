// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VP9: the few fields of the uncompressed header (VP9 bitstream specification, 6.2) that decide which
//! slots a frame goes into.
//!
//! The OUTPUT buffer holds the whole frame and goes to the decoder as it is. The decoder follows the
//! bitstream, so what the engine must know of the frame is read from there and not from the control.

/// What [`FrameHeader::read`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// `Profile`, 0 to 3.
    pub profile: u8,
    /// The slot whose frame is shown again; nothing is decoded then and the other fields are those of
    /// a hidden frame that refreshes no slot.
    pub show_existing: Option<u8>,
    /// Key frame.
    pub key: bool,
    /// `show_frame`.
    pub shown: bool,
    /// `intra_only`, or a key frame.
    pub intra: bool,
    /// `refresh_frame_flags`: the slots that the frame goes into.
    pub refresh: u8,
}

impl FrameHeader {
    /// Reads the header's beginning. `None` if it is cut short or is no VP9 frame header.
    pub fn read(data: &[u8]) -> Option<Self> {
        let mut r = Reader { data, position: 0 };
        if r.bits(2)? != 2 {
            return None;
        }
        let (low, high) = (r.bits(1)?, r.bits(1)?);
        let profile = ((high << 1) | low) as u8;
        if profile == 3 && r.bits(1)? != 0 {
            return None;
        }
        if r.bits(1)? == 1 {
            let show_existing = Some(r.bits(3)? as u8);
            return Some(Self {
                profile,
                show_existing,
                key: false,
                shown: false,
                intra: false,
                refresh: 0,
            });
        }
        let key = r.bits(1)? == 0;
        let shown = r.bits(1)? == 1;
        let error_resilient = r.bits(1)? == 1;
        let header = Self {
            profile,
            show_existing: None,
            key,
            shown,
            intra: key,
            refresh: 0xff,
        };
        if key {
            return r.sync_code().map(|()| header);
        }
        let intra_only = !shown && r.bits(1)? == 1;
        if !error_resilient {
            let _reset_frame_context = r.bits(2)?;
        }
        if intra_only {
            r.sync_code()?;
            if profile > 0 {
                r.intra_only_color_config(profile)?;
            }
        }
        Some(Self {
            intra: intra_only,
            refresh: r.bits(8)? as u8,
            ..header
        })
    }
}

struct Reader<'a> {
    data: &'a [u8],
    /// In bits.
    position: usize,
}

impl Reader<'_> {
    fn bits(&mut self, n: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..n {
            let byte = self.data.get(self.position / 8)?;
            let bit = (byte >> (7 - self.position % 8)) & 1;
            value = (value << 1) | u32::from(bit);
            self.position += 1;
        }
        Some(value)
    }

    /// `frame_sync_code()`.
    fn sync_code(&mut self) -> Option<()> {
        (self.bits(24)? == 0x49_83_42).then_some(())
    }

    /// `color_config()` of profiles 1 to 3, passed over.
    fn intra_only_color_config(&mut self, profile: u8) -> Option<()> {
        if profile >= 2 {
            let _twelve_bit = self.bits(1)?;
        }
        let cs_rgb = 7;
        let subsampling_coded = profile == 1 || profile == 3;
        if self.bits(3)? != cs_rgb {
            let _color_range = self.bits(1)?;
            if subsampling_coded {
                let _subsampling_and_reserved = self.bits(3)?;
            }
        } else if subsampling_coded {
            let _reserved = self.bits(1)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_refreshes_all_slots() {
        // Frame marker, profile 0, no show_existing, key frame, shown, no error resilience, sync code.
        let header = FrameHeader::read(&[0b1000_0010, 0x49, 0x83, 0x42]).expect("a key frame");
        assert!(header.key && header.shown && header.intra);
        assert_eq!(header.refresh, 0xff);
        assert_eq!(FrameHeader::read(&[0b1000_0010, 0x49, 0x83, 0x43]), None);
    }

    #[test]
    fn an_inter_frame_says_which_slots() {
        // Inter, hidden, no error resilience; intra_only 0, reset_frame_context 0, then the flags.
        let header = FrameHeader::read(&[0b1000_0100, 0b0001_0100, 0b1010_0000]).expect("an inter frame");
        assert!(!header.key && !header.shown && !header.intra);
        assert_eq!(header.refresh, 0b1010_0101);
        assert_eq!(FrameHeader::read(&[0b1000_0100]), None);
    }

    #[test]
    fn show_existing_names_a_slot() {
        assert_eq!(
            FrameHeader::read(&[0b1000_1101]).and_then(|h| h.show_existing),
            Some(5)
        );
    }
}
