//! Frames and channels against the examples of RFC 6455, and against whatever may come.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{
    ChannelDecoder, Encoding, Item, WebSocketError,
    frame::{Decoder, Opcode, Received, encode},
};
use crate::side::Side;

fn decode(side: Side, wire: &[u8], cut: usize) -> Result<Vec<Received>, WebSocketError> {
    let mut decoder = Decoder::new(side);
    let mut buffer = BytesMut::new();
    let mut all = Vec::new();
    for part in [&wire[..cut], &wire[cut..]] {
        buffer.extend_from_slice(part);
        while let Some(received) = decoder.decode(&mut buffer)? {
            all.push(received);
        }
    }
    assert!(buffer.len() <= 14 + 125);
    Ok(all)
}

/// The messages, whole.
fn messages(received: Vec<Received>) -> Vec<(bool, Vec<u8>)> {
    let mut all = Vec::new();
    let mut running = None;
    for received in received {
        if let Received::Piece {
            first,
            last,
            text,
            data,
        } = received
        {
            assert_eq!(first, running.is_none());
            let mut message: Vec<u8> = running.take().unwrap_or_default();
            message.extend_from_slice(&data);
            if last {
                all.push((text, message));
            } else {
                running = Some(message);
            }
        }
    }
    all
}

#[test]
fn examples_of_the_rfc_are_read_however_they_are_cut() {
    // RFC 6455, 5.7: a masked "Hello", a fragmented one with a ping between, 256 bytes.
    let masked = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    for cut in 0..masked.len() {
        let received = decode(Side::Server, &masked, cut).unwrap();
        assert_eq!(messages(received), [(true, b"Hello".to_vec())]);
    }
    let plain = [
        0x01, 0x03, 0x48, 0x65, 0x6c, 0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x80, 0x02, 0x6c,
        0x6f,
    ];
    for cut in 0..plain.len() {
        let received = decode(Side::Client, &plain, cut).unwrap();
        let pings = received
            .iter()
            .filter(|r| **r == Received::Ping(Bytes::from_static(b"Hello")));
        assert_eq!(pings.count(), 1);
        assert_eq!(messages(received), [(true, b"Hello".to_vec())]);
    }
    let mut long = vec![0x82, 0x7e, 0x01, 0x00];
    long.extend([7; 256]);
    let received = decode(Side::Client, &long, 100).unwrap();
    assert_eq!(messages(received), [(false, vec![7; 256])]);
}

#[test]
fn what_is_against_the_rules_is_refused() {
    let refused = |wire: &[u8]| decode(Side::Client, wire, 0).unwrap_err();
    assert_eq!(refused(&[0xc1, 0]), WebSocketError::Reserved);
    assert_eq!(refused(&[0x83, 0]), WebSocketError::Opcode(3));
    assert_eq!(refused(&[0x81, 0x80, 0, 0, 0, 0]), WebSocketError::Mask);
    assert_eq!(refused(&[0x09, 0]), WebSocketError::Control);
    assert_eq!(refused(&[0x89, 126, 0, 126]), WebSocketError::Control);
    assert_eq!(refused(&[0x80, 0]), WebSocketError::Continuation);
    assert_eq!(refused(&[0x01, 0, 0x82, 0]), WebSocketError::Continuation);
    // Half a status, one that stands for none, one without meaning, a reason that is no text.
    for payload in [&[3][..], &[3, 0xed], &[0xff, 0xff], &[3, 0xe8, 0xff]] {
        let length = u8::try_from(payload.len()).unwrap();
        let wire = [&[0x88, length], payload].concat();
        assert_eq!(refused(&wire), WebSocketError::Close, "{payload:?}");
    }
    let endless = [0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(refused(&endless), WebSocketError::Length);
    assert_eq!(
        decode(Side::Server, &[0x81, 0], 0),
        Err(WebSocketError::Mask)
    );
}

const BINARY: Encoding = Encoding {
    base64: false,
    half_close: true,
};
const TEXT: Encoding = Encoding {
    base64: true,
    half_close: false,
};

/// What a message means, in pieces cut at `cut`.
fn items(encoding: Encoding, message: &[u8], cut: usize) -> Result<Vec<Item>, WebSocketError> {
    let mut channels = ChannelDecoder::new(encoding);
    let (head, tail) = message.split_at(cut);
    let first = channels.piece(false, Bytes::copy_from_slice(head))?;
    let second = channels.piece(true, Bytes::copy_from_slice(tail))?;
    Ok([first, second]
        .into_iter()
        .filter(|item| *item != Item::Nothing)
        .collect())
}

#[test]
fn channels_and_their_ends_are_found_in_pieces() {
    for cut in 0..=2 {
        let closed = items(BINARY, &[255, 0], cut).unwrap();
        assert_eq!(closed, [Item::Close(0)]);
    }
    assert_eq!(items(BINARY, &[255], 0), Err(WebSocketError::CloseSignal));
    assert_eq!(
        items(BINARY, &[255, 0, 0], 1),
        Err(WebSocketError::CloseSignal)
    );
    // Without v5 it is a channel like any other.
    let plain = Encoding {
        half_close: false,
        ..BINARY
    };
    assert_eq!(
        items(plain, &[255, 0], 2).unwrap()[0],
        Item::Data(255, Bytes::from_static(&[0]))
    );
    assert_eq!(items(TEXT, b"0Zm9v!", 3), Err(WebSocketError::Base64));
    assert_eq!(items(TEXT, b"0Zm9", 3), Err(WebSocketError::Base64));
}

fn data(items: Vec<Item>) -> (Option<u8>, Vec<u8>) {
    let mut channel = None;
    let mut all = Vec::new();
    for item in items {
        if let Item::Data(own, data) = item {
            channel = Some(own);
            all.extend_from_slice(&data);
        }
    }
    (channel, all)
}

proptest! {
    #[test]
    fn what_we_write_is_read_the_same(
        message in proptest::collection::vec(any::<u8>(), 0..70_000),
        mask in any::<Option<[u8; 4]>>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let side = if mask.is_some() { Side::Server } else { Side::Client };
        let mut wire = BytesMut::new();
        let (head, tail) = message.split_at(message.len() / 3);
        encode(&mut wire, Opcode::Binary, mask, &[head, tail]);
        let cut = cut.index(wire.len() + 1);
        let received = decode(side, &wire, cut).unwrap();
        prop_assert_eq!(messages(received), [(false, message)]);
    }

    #[test]
    fn any_bytes_are_survived(
        wire in proptest::collection::vec(any::<u8>(), 0..2000),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(wire.len() + 1);
        let _ = decode(Side::Server, &wire, cut);
        let _ = decode(Side::Client, &wire, cut);
    }

    #[test]
    fn base64_is_read_however_it_is_cut(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        cut in any::<prop::sample::Index>(),
    ) {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let message = format!("1{}", STANDARD.encode(&bytes));
        let cut = cut.index(message.len() + 1);
        let (channel, got) = data(items(TEXT, message.as_bytes(), cut).unwrap());
        prop_assert_eq!((channel, got), (Some(1), bytes));
    }

    #[test]
    fn any_message_is_survived(
        message in proptest::collection::vec(any::<u8>(), 0..300),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(message.len() + 1);
        let _ = items(BINARY, &message, cut);
        let _ = items(TEXT, &message, cut);
    }
}
