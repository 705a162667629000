//! A driver against a pipe.

use super::*;
use crate::{spdy, websocket};

const LIMITS: Limits = Limits {
    idle: None,
    streams: 1,
};

/// The answer that it can't be given is no error.
#[tokio::test]
async fn peer_that_is_gone_has_closed() {
    let (near, far) = tokio::io::duplex(64);
    drop(far);
    let (reader, writer) = (spdy::Reader::new(Side::Server), spdy::Writer::new());
    let (_mux, driver, _opened) = connection(near, Side::Server, LIMITS, reader, writer);
    assert_eq!(driver.run().await.unwrap(), End::Closed);
}

#[tokio::test(start_paused = true)]
async fn peer_that_closes_and_reads_nothing_has_two_seconds() {
    let (near, mut far) = tokio::io::duplex(1);
    let (reader, writer) = (
        websocket::TunnelReader::new(Side::Server),
        websocket::TunnelWriter::new(Side::Server),
    );
    let (_mux, driver, _opened) = connection(near, Side::Server, LIMITS, reader, writer);
    let start = Instant::now();
    let close = async {
        far.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = driver.run() => assert_eq!(ended.unwrap(), End::Closed),
        () = close => {}
    }
    assert_eq!(start.elapsed(), CLOSE_WAIT);
}
