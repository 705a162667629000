//! Carries the bytes of a tunnelled SPDY connection between its WebSocket and a pipe.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::{mux::Mux, stream::Stream};

/// Bytes carried at once.
const PIECE: usize = 16 << 10;

/// Carries until one end closes; then the other is closed.
pub(crate) async fn tunnel(mux: Mux, mut stream: Stream, pipe: DuplexStream) {
    let (mut read, mut write) = tokio::io::split(pipe);
    let inward = async {
        while let Some(data) = stream.input.next().await {
            if write.write_all(&data).await.is_err() {
                return;
            }
        }
    };
    let outward = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            match read.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if stream.output.write(buffer.split().freeze()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        // The end of either is the end of both.
        () = inward => {}
        () = outward => {}
    }
    mux.close().await;
}
