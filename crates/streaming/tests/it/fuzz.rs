//! One target for each parser of outside bytes. The corpus in `fuzz/corpus/<target>` is replayed by
//! every test run, with some changed copies of it; `make fuzz` goes on changing for a minute each.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use streaming::{
    Outcome, Side, remote_command,
    spdy::{
        MAX_CONTROL,
        frame::{Decoder, Encoder, Frame},
    },
    websocket::{self, ChannelDecoder, Encoding},
};

/// Changed copies of each file in an ordinary run.
const ORDINARY: u32 = 300;
/// Longest input that is made.
const LONGEST: usize = 8 << 10;

/// The first byte says where the rest is cut in two.
fn halves(data: &[u8]) -> [&[u8]; 2] {
    let Some((cut, rest)) = data.split_first() else {
        return [&[], &[]];
    };
    let (head, tail) = rest.split_at(usize::from(*cut) * rest.len() / 256);
    [head, tail]
}

fn spdy(data: &[u8]) {
    let mut decoder = Decoder::new();
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    'all: for part in halves(data) {
        buffer.extend_from_slice(part);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => break 'all,
            }
        }
        assert!(buffer.len() <= MAX_CONTROL + 8);
    }
    // What was understood is understood again.
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new();
    for frame in frames {
        if matches!(frame, Frame::Ignored(_)) {
            continue;
        }
        let mut wire = BytesMut::new();
        encoder.encode(&frame, &mut wire);
        assert_eq!(decoder.decode(&mut wire), Ok(Some(frame)));
    }
}

fn websocket(data: &[u8]) {
    for side in [Side::Server, Side::Client] {
        let mut decoder = websocket::frame::Decoder::new(side);
        let mut buffer = BytesMut::new();
        for part in halves(data) {
            buffer.extend_from_slice(part);
            while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
        }
    }
}

fn channels(data: &[u8]) {
    for (base64, half_close) in [(false, false), (true, false), (false, true)] {
        let mut decoder = ChannelDecoder::new(Encoding { base64, half_close });
        let [head, tail] = halves(data).map(Bytes::copy_from_slice);
        if decoder.piece(false, head).is_ok() {
            let _ = decoder.piece(true, tail);
        }
    }
}

fn sizes(data: &[u8]) {
    let mut decoder = remote_command::SizeDecoder::new();
    for part in halves(data) {
        let _ = decoder.push(part);
    }
}

fn error_stream(data: &[u8]) {
    for version in remote_command::Version::SPDY {
        let outcome = Outcome::from_error_stream(version, data);
        if version >= remote_command::Version::V4 && outcome != Outcome::Success {
            let told = version.error_stream(&outcome).unwrap();
            assert_ne!(Outcome::from_error_stream(version, &told), Outcome::Success);
        }
    }
}

type Target = (&'static str, fn(&[u8]));
const TARGETS: [Target; 5] = [
    ("spdy", spdy),
    ("websocket", websocket),
    ("channels", channels),
    ("sizes", sizes),
    ("error-stream", error_stream),
];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut files: Vec<PathBuf> = fs::read_dir(path.join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "fuzz/corpus/{target} is empty");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Numbers without a pattern, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 32).unwrap() % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        const LIKELY: [u8; 8] = [0, 1, 0x7e, 0x7f, 0x80, 0xff, b'{', b'"'];
        match self.below(2) {
            0 => LIKELY[self.below(LIKELY.len())],
            _ => u8::try_from(self.below(256)).unwrap(),
        }
    }

    /// Changes some of `data`: bytes set, put in, taken out, repeated, or joined with `other`'s.
    fn change(&mut self, data: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=self.below(6) {
            let at = self.below(data.len() + 1);
            let byte = self.byte();
            match self.below(6) {
                0 if at < data.len() => data[at] = byte,
                1 if at < data.len() => data[at] ^= 1 << self.below(8),
                2 => data.insert(at, byte),
                3 => {
                    let end = (at + self.below(16)).min(data.len());
                    data.drain(at..end);
                }
                4 => {
                    let end = (at + self.below(64)).min(data.len());
                    let part = data[at..end].to_vec();
                    data.splice(at..at, part);
                }
                _ => {
                    data.truncate(at);
                    data.extend_from_slice(&other[self.below(other.len() + 1)..]);
                }
            }
        }
        data.truncate(LONGEST);
    }
}

fn survives((name, target): Target, data: &[u8]) {
    let survived = catch_unwind(AssertUnwindSafe(|| target(data))).is_ok();
    assert!(
        survived,
        "{name} does not survive {data:02x?}: put it into fuzz/corpus/{name}"
    );
}

#[test]
fn corpus_and_what_is_made_of_it_is_survived() {
    #[expect(clippy::disallowed_methods, reason = "how make fuzz asks for more")]
    let seconds = std::env::var("FUZZ_SECONDS").map_or(0, |text| text.parse().unwrap());
    for target in TARGETS {
        let files = corpus(target.0);
        for file in &files {
            survives(target, file);
        }
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut tries = 0;
        let least = ORDINARY * u32::try_from(files.len()).unwrap();
        while tries < least || Instant::now() < until {
            let mut data = files[dice.below(files.len())].clone();
            let other = &files[dice.below(files.len())];
            dice.change(&mut data, other);
            survives(target, &data);
            tries += 1;
        }
    }
}
