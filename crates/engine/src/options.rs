// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a session decodes.

/// Most luma samples of a picture that a decoder accepts: 8192 × 8192.
///
/// A client states the picture size in its controls. The size decides how much private memory a worker
/// allocates.
pub const MAX_PIXELS: u32 = 1 << 26;

/// Selects the implementation that decodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The library that the engine has for the codec.
    #[default]
    Auto,
    /// No library: every job is answered at once with a grey picture. For measuring everything else.
    Null,
}

/// Threads of a session.
///
/// A codec uses them for several pictures at a time, or for parts of one picture: see its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// This many, 1 or more.
    Fixed(u32),
    /// As many as pay for pictures of the session's size, at most `most` (the number of cores).
    Auto {
        /// Upper limit.
        most: u32,
    },
}

/// The most that [`Threads::Auto`] takes for jobs.
const MOST_USEFUL: u32 = 4;
/// The most that it takes for a stream. Each is a picture that comes out later.
const MOST_OF_STREAM: u32 = 16;

impl Threads {
    /// Returns as many as a session of any size may have.
    #[must_use]
    pub fn most(self) -> u32 {
        match self {
            Self::Fixed(threads) => threads.max(1),
            Self::Auto { most } => most.clamp(1, MOST_USEFUL),
        }
    }

    /// Returns how many a decoder of a stream has. Nothing there need be final at once, so it uses every
    /// core.
    #[must_use]
    pub fn all(self) -> u32 {
        match self {
            Self::Fixed(threads) => threads.max(1),
            Self::Auto { most } => most.clamp(1, MOST_OF_STREAM),
        }
    }

    /// Returns how many serve pictures of the size. Below about 480 lines, waking a second thread costs as
    /// much as it saves.
    #[must_use]
    pub fn for_size(self, width: u32, height: u32) -> u32 {
        match self {
            Self::Fixed(threads) => threads.max(1),
            Self::Auto { most } => {
                let useful = match u64::from(width) * u64::from(height) {
                    0..300_000 => 1,
                    300_000..1_000_000 => 2,
                    _ => MOST_USEFUL,
                };
                useful.min(most).max(1)
            }
        }
    }
}

/// How to decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads of a session. A picture is final when its job is reported, whatever the value.
    pub threads: Threads,
    /// Decode into CAPTURE itself where that is possible; else everything is decoded into private memory and
    /// copied.
    pub direct: bool,
    /// The implementation that decodes.
    pub backend: Backend,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: Threads::Fixed(1),
            direct: true,
            backend: Backend::Auto,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_have_one_thread() {
        let auto = Threads::Auto { most: 8 };
        assert_eq!(auto.for_size(320, 240), 1);
        assert_eq!(auto.for_size(1280, 720), 2);
        assert_eq!(auto.for_size(1920, 1088), 4);
        assert_eq!(auto.for_size(u32::MAX, u32::MAX), 4);
        assert_eq!(Threads::Auto { most: 2 }.for_size(1920, 1088), 2);
        assert_eq!(Threads::Auto { most: 0 }.for_size(1920, 1088), 1);
        assert_eq!(Threads::Fixed(3).for_size(16, 16), 3);
        assert_eq!(Threads::Fixed(0).for_size(16, 16), 1);
    }
}
