// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An imitated client, as a player drives it.

use super::frames::Frames;
use crate::coded::{CodedJob, Visible};
use crate::device::ClientError;

/// The figures of a player.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Jobs submitted.
    pub jobs: usize,
    /// Pictures shown.
    pub shown: usize,
    /// CAPTURE buffers that came back with `V4L2_BUF_FLAG_ERROR`.
    pub flagged: usize,
    /// Times that the client prepared the device afresh.
    pub sessions: usize,
    /// Most jobs in flight at once.
    pub in_flight: usize,
}

/// A change before a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It goes on.
    None,
    /// It shows what is due, gives up all pictures and prepares the device for what follows.
    Afresh,
    /// It cannot go on.
    Refuse(&'static str),
}

/// A client, as a player drives it.
pub(super) trait Client {
    /// Returns how many pictures the client's user lets pile up before it takes the first.
    fn lag(&self) -> usize;
    /// Returns the change that `job` needs before it.
    fn change(&self, job: &CodedJob) -> Change;
    /// Prepares the device for `job` and what follows.
    fn begin(&mut self, job: &CodedJob) -> Result<(), ClientError>;
    /// Returns whether there is a CAPTURE buffer for one more picture, or will be without one being shown.
    fn has_room(&mut self) -> Result<bool, ClientError>;
    /// Submits `job` and adds its picture to `frames`.
    fn submit(&mut self, job: &CodedJob, frames: &mut Frames) -> Result<(), ClientError>;
    /// The picture in `buffer` is needed no more.
    fn recycle(&mut self, buffer: usize);
    /// Waits until `buffer` is decoded.
    fn wait_for(&mut self, buffer: usize) -> Result<(), ClientError>;
    /// Reads the visible part of the picture in `buffer`; returns its format too.
    fn read(&self, buffer: usize, visible: &Visible) -> Result<(u32, Vec<u8>), ClientError>;
    /// Ends the session in an orderly way.
    fn end(&mut self) -> Result<(), ClientError>;
    /// Returns the figures so far.
    fn summary(&self) -> Summary;
}
