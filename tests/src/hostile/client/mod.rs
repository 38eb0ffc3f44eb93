// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client that does anything: a fuzzer of the video node, the media node and requests. It knows the
//! structures, and roughly the state of the device. Half of its calls go on with decoding a clip, so that
//! there is a state in which the other half can do harm; those take any ioctl with likely, unlikely or broken
//! arguments.

mod anything;
mod state;

pub(super) use state::{Client, moment, open};

use super::table::{Node, Op};

impl Client<'_> {
    /// Takes one turn: the next step of decoding, which is often several calls, or anything.
    pub(super) fn turn(&mut self) {
        if self.stuck < 6 && self.rng.one_in(3) {
            self.advance();
        } else {
            self.stuck = 0;
            let nodes = match self.units {
                Some(_) => [Node::Video, Node::Stream],
                None => [Node::Video, Node::Media],
            };
            let op = loop {
                let op = self.rng.pick(Op::ALL);
                if nodes.contains(&op.node()) {
                    break op;
                }
            };
            self.anything(op);
        }
    }
}
