//! Frames against those that Go's spdystream 0.5 wrote, and against whatever may come.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{
    FrameError, Headers, MAX_BLOCK, MAX_CONTROL,
    frame::{Decoder, Encoder, Frame},
};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// Everything that comes out of `wire`, cut at `cut`.
fn decode(wire: &[u8], cut: usize) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = Decoder::new();
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for part in [&wire[..cut], &wire[cut..]] {
        buffer.extend_from_slice(part);
        while let Some(frame) = decoder.decode(&mut buffer)? {
            frames.push(frame);
        }
    }
    assert!(buffer.len() <= MAX_CONTROL + 8);
    Ok(frames)
}

/// Puts pieces of one data frame together again.
fn join(frames: Vec<Frame>) -> Vec<Frame> {
    let mut joined: Vec<Frame> = Vec::new();
    for frame in frames {
        if let Frame::Data { stream, data, fin } = &frame
            && let Some(Frame::Data {
                stream: same,
                data: before,
                fin: ended @ false,
            }) = joined.last_mut()
            && same == stream
        {
            *before = [&before[..], &data[..]].concat().into();
            *ended = *fin;
        } else {
            joined.push(frame);
        }
    }
    joined
}

const GO: &[&str] = &[
    "80030001000000290000000100000000000078f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff",
    "800300010000001900000003000000000000c22ac5565c92925f5a02000000ffff",
    "800300010000002f0000000500000000000002a55548b15d04ce21160616060c0c0c9c459068ce04257f46030cdda0322a11000000ffff",
    "800300080000001400000005829acb08ca4bcc860c4600000000ffff",
    "800300020000000e000000016260606000000000ffff",
    "80030003000000080000000500000005",
    "800300040000000c000000010100000400000064",
    "800300060000000400000001",
    "80030007000000080000000500000000",
    "80030009000000080000000500010000",
    "000000030100000568656c6c6f",
];

fn gos_frames() -> Vec<Frame> {
    let syn = |stream, headers| Frame::SynStream {
        stream,
        headers,
        fin: false,
    };
    vec![
        syn(1, Headers::new().with("streamtype", "error")),
        syn(3, Headers::new().with("streamtype", "stdout")),
        syn(
            5,
            Headers::new()
                .with("streamtype", "data")
                .with("port", "8080")
                .with("requestid", "0"),
        ),
        Frame::Headers {
            stream: 5,
            headers: Headers::new().with("a", "1\x002"),
            fin: false,
        },
        Frame::SynReply {
            stream: 1,
            headers: Headers::new(),
            fin: false,
        },
        Frame::Reset {
            stream: 5,
            status: 5,
        },
        Frame::Ignored(4),
        Frame::Ping(1),
        Frame::GoAway { last: 5, status: 0 },
        Frame::WindowUpdate {
            stream: 5,
            delta: 65536,
        },
        Frame::Data {
            stream: 3,
            data: Bytes::from_static(b"hello"),
            fin: true,
        },
    ]
}

/// Go's header maps have no order.
fn sorted(frames: &[Frame]) -> Vec<String> {
    frames
        .iter()
        .map(|frame| {
            let mut letters: Vec<char> = format!("{frame:?}").chars().collect();
            if matches!(frame, Frame::SynStream { stream: 5, .. }) {
                letters.sort_unstable();
            }
            letters.into_iter().collect()
        })
        .collect()
}

#[test]
fn frames_of_gos_implementation_are_read_however_they_are_cut() {
    let wire = hex(&GO.concat());
    for cut in 0..wire.len() {
        let frames = join(decode(&wire, cut).unwrap());
        assert_eq!(sorted(&frames), sorted(&gos_frames()), "cut at {cut}");
    }
}

#[test]
fn frames_without_headers_are_written_as_go_writes_them() {
    let mut encoder = Encoder::new();
    for (frame, wire) in gos_frames().iter().zip(GO) {
        if matches!(
            frame,
            Frame::SynStream { .. }
                | Frame::SynReply { .. }
                | Frame::Headers { .. }
                | Frame::Ignored(_)
        ) {
            continue;
        }
        let mut out = BytesMut::new();
        encoder.encode(frame, &mut out);
        assert_eq!(out[..], hex(wire), "{frame:?}");
    }
}

#[test]
fn what_is_no_frame_is_refused() {
    let refused = |wire: &str| decode(&hex(wire), 0).unwrap_err();
    assert_eq!(refused("8002000600000004"), FrameError::Version(2));
    assert_eq!(refused("8003000100ffffff"), FrameError::TooLarge(0xff_ffff));
    assert_eq!(
        refused("800300060000000000"),
        FrameError::Length { kind: 6, length: 0 }
    );
    assert_eq!(refused("0000000000000000"), FrameError::StreamZero);
    assert_eq!(
        refused("80030003000000080000000000000005"),
        FrameError::StreamZero
    );
    // No zlib, another dictionary, garbage behind the header.
    for block in ["ffff", "78f900000001", "78f9e3c6a7c2ffff"] {
        let length = 10 + block.len() / 2;
        let wire = format!("80030001{length:08x}00000001000000000000{block}");
        assert_eq!(refused(&wire), FrameError::Compression, "{block}");
    }
}

/// A small block that unpacks to very much.
#[test]
fn bomb_of_headers_costs_no_more_than_the_limit() {
    use miniz_oxide::deflate::compress_to_vec_zlib;
    let packed = compress_to_vec_zlib(&vec![0; 16 << 20], 9);
    assert!(packed.len() < MAX_CONTROL);
    let mut wire = hex("80030001");
    wire.extend(u32::try_from(packed.len() + 10).unwrap().to_be_bytes());
    wire.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    wire.extend(packed);
    assert_eq!(decode(&wire, 0), Err(FrameError::HeadersTooLarge));
}

fn headers() -> impl Strategy<Value = Headers> {
    proptest::collection::btree_map("[a-z:-]{1,20}", ".{0,200}", 0..8).prop_map(|map| {
        map.into_iter()
            .fold(Headers::new(), |all, (name, value)| all.with(&name, value))
    })
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let id = 1_u32..0x7fff_ffff;
    let frame = prop_oneof![
        (id.clone(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| {
            Frame::SynStream {
                stream,
                headers,
                fin,
            }
        }),
        (id.clone(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| {
            Frame::SynReply {
                stream,
                headers,
                fin,
            }
        }),
        (id.clone(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| {
            Frame::Headers {
                stream,
                headers,
                fin,
            }
        }),
        (id.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::Reset { stream, status }),
        any::<u32>().prop_map(Frame::Ping),
        (id.clone(), any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
        (
            id,
            proptest::collection::vec(any::<u8>(), 0..300),
            // Frames without an end would be joined with the next one's.
            Just(true)
        )
            .prop_map(|(stream, data, fin)| Frame::Data {
                stream,
                data: data.into(),
                fin,
            }),
    ];
    proptest::collection::vec(frame, 0..8)
}

proptest! {
    #[test]
    fn what_we_write_is_read_the_same(frames in frames(), cut in any::<prop::sample::Index>()) {
        let mut encoder = Encoder::new();
        let mut wire = BytesMut::new();
        for frame in &frames {
            encoder.encode(frame, &mut wire);
        }
        let cut = cut.index(wire.len() + 1);
        prop_assert_eq!(join(decode(&wire, cut).unwrap()), frames);
    }

    #[test]
    fn any_bytes_are_survived(wire in proptest::collection::vec(any::<u8>(), 0..2000), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(wire.len() + 1);
        let _ = decode(&wire, cut);
    }

    #[test]
    fn any_header_block_is_survived(block in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let block = [&hex("78f9e3c6a7c2"), &block[..]].concat();
        let mut wire = hex("80030001");
        wire.extend(u32::try_from(block.len() + 10).unwrap().to_be_bytes());
        wire.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        wire.extend(block);
        if let Ok(frames) = decode(&wire, 0) {
            let shown = format!("{frames:?}");
            prop_assert!(shown.len() < 8 * MAX_BLOCK);
        }
    }
}
