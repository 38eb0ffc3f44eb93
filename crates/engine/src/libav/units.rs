// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which access units of a stream libavcodec complained about, while several threads decode them.

/// Units whose damage is remembered. Some never become a picture.
const MOST_DAMAGED: usize = 64;

/// The access units of a stream that the library has, by their tags, which grow.
#[derive(Debug, Default)]
pub(super) struct Units {
    newest: u64,
    /// `newest` when something was last complained about.
    complaint: u64,
    /// Addresses of contexts, each with the unit that it began a picture for, until that is output.
    contexts: Vec<(usize, u64)>,
    /// Units of those that were complained about.
    damaged: Vec<u64>,
}

impl Units {
    /// Notes that a unit goes to the library.
    pub(super) fn send(&mut self, tag: u64) {
        self.newest = self.newest.max(tag);
    }

    /// Notes that a context begins a picture.
    pub(super) fn begin_picture(&mut self, context: usize, tag: u64) {
        self.contexts.retain(|(other, _)| *other != context);
        self.contexts.push((context, tag));
    }

    /// Notes a complaint by a context. It is about the context's picture, or about the second field of
    /// another one.
    pub(super) fn complain(&mut self, context: usize) {
        self.complaint = self.newest;
        let own = self.contexts.iter().find(|(other, _)| *other == context);
        let new = own.filter(|(_, tag)| !self.damaged.contains(tag));
        if let Some((_, tag)) = new {
            self.damaged.push(*tag);
            let most = self.damaged.len().saturating_sub(MOST_DAMAGED);
            self.damaged.drain(..most);
        }
    }

    /// Notes that a unit's picture is output. Returns whether a complaint was about it, and whether one came
    /// since the unit was sent.
    pub(super) fn output(&mut self, tag: u64) -> (bool, bool) {
        let own = self.damaged.contains(&tag);
        self.damaged.retain(|other| *other != tag);
        self.contexts.retain(|(_, other)| *other != tag);
        (own, self.complaint >= tag)
    }

    /// Forgets everything but the tags' order.
    pub(super) fn flush(&mut self) {
        self.contexts.clear();
        self.damaged.clear();
    }
}
