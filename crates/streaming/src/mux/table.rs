//! The streams of a connection: which are open, and for whom.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    protocol::Outgoing,
    spdy::Headers,
    stream::{Input, Output, Stream},
};

/// Pieces that wait for the reader of one stream.
const INPUT_PIECES: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Table(Mutex<Streams>);

#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) open: HashMap<u32, Entry>,
    /// The last number that the peer used.
    pub(super) received: u32,
    /// How many we opened.
    pub(super) opened: u32,
    pub(super) ended: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// `None` when the peer has sent all, or nobody reads.
    pub(super) input: Option<mpsc::Sender<Bytes>>,
    /// Waits for the peer's acceptance.
    pub(super) accepted: Option<oneshot::Sender<()>>,
    pub(super) peer_open: bool,
    pub(super) own_open: bool,
    /// Both have finished, or it is cut off.
    pub(super) ended: CancellationToken,
    /// Reset by one of them, or lost with the connection; the parent of `ended`.
    pub(super) cut_off: CancellationToken,
}

impl Table {
    pub(super) fn lock(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn input(&self, stream: u32) -> Option<mpsc::Sender<Bytes>> {
        self.lock().open.get(&stream)?.input.clone()
    }

    /// One direction of a stream has ended.
    pub(super) fn finish(&self, stream: u32, half: impl FnOnce(&mut Entry)) {
        let mut streams = self.lock();
        if let Some(entry) = streams.open.get_mut(&stream) {
            half(entry);
            if !entry.peer_open && !entry.own_open {
                entry.ended.cancel();
                streams.open.remove(&stream);
            }
        }
    }

    pub(super) fn peer_finished(&self, stream: u32) {
        self.finish(stream, |entry| {
            entry.input = None;
            entry.peer_open = false;
        });
    }

    pub(super) fn end(&self, stream: u32) {
        if let Some(entry) = self.lock().open.remove(&stream) {
            entry.cut_off.cancel();
        }
    }

    pub(super) fn end_all(&self) {
        let mut streams = self.lock();
        streams.ended = true;
        for (_, entry) in streams.open.drain() {
            entry.cut_off.cancel();
        }
    }
}

impl Streams {
    /// Enters a stream.
    pub(super) fn enter(
        &mut self,
        id: u32,
        headers: Headers,
        queue: &mpsc::Sender<Outgoing>,
    ) -> Stream {
        let (sender, receiver) = mpsc::channel(INPUT_PIECES);
        let cut_off = CancellationToken::new();
        let ended = cut_off.child_token();
        let entry = Entry {
            input: Some(sender),
            accepted: None,
            peer_open: true,
            own_open: true,
            ended: ended.clone(),
            cut_off: cut_off.clone(),
        };
        if self.ended {
            cut_off.cancel();
        } else {
            self.open.insert(id, entry);
        }
        Stream {
            id,
            headers,
            input: Input::new(receiver),
            output: Output::new(id, queue.clone(), ended, cut_off),
        }
    }
}
