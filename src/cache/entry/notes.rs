//! What is kept with a body beside it.

use super::block::{Frames, framed_len, put_frame};

/// What is known of a body beside it. Most bodies have none, which takes no room.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notes<'a> {
    /// The pace of an event stream, as [`Recorder::encode`](super::super::stream::Recorder::encode) wrote it; empty for
    /// none.
    pub pace: &'a [u8],
    /// What it says about its tokens, as [`Usage::encode`](super::super::usage::Usage::encode) wrote it; empty for
    /// none.
    pub usage: &'a [u8],
}

impl<'a> Notes<'a> {
    fn is_empty(&self) -> bool {
        self.pace.is_empty() && self.usage.is_empty()
    }

    /// Bytes that they take.
    pub(super) fn len(&self) -> usize {
        if self.is_empty() {
            0
        } else {
            framed_len(self.pace.len()) + framed_len(self.usage.len())
        }
    }

    /// Appends them.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        if !self.is_empty() {
            put_frame(bytes, self.pace);
            put_frame(bytes, self.usage);
        }
    }

    /// Reads what [`Notes::write`] wrote.
    pub(super) fn read(bytes: &'a [u8]) -> Self {
        let mut frames = Frames(bytes);
        Self {
            pace: frames.next().unwrap_or_default(),
            usage: frames.next().unwrap_or_default(),
        }
    }
}
