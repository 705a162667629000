//! Messages of the bus: calls that go out, and what comes in.

use super::{
    BusError,
    wire::{Reader, Writer, length, to_usize},
};

/// No answer that we ask for is larger; the specification allows 128 MiB.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
pub(super) const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const BUS_NAME: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// A method call that goes out.
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) signature: &'a str,
    pub(super) body: &'a [u8],
}

impl Call<'_> {
    pub(super) const TO_BUS: Self = Self {
        destination: BUS_NAME,
        path: BUS_PATH,
        interface: BUS_NAME,
        member: "",
        signature: "",
        body: &[],
    };
    pub(super) const TO_SYSTEMD: Self = Self {
        destination: NAME,
        path: PATH,
        interface: MANAGER,
        member: "",
        signature: "",
        body: &[],
    };

    pub(super) fn encode(&self, serial: u32) -> Vec<u8> {
        let mut message = Writer::default();
        // Little-endian, method call, no flags, protocol 1.
        message.0.extend([b'l', 1, 0, 1]);
        message.u32(length(self.body.len()));
        message.u32(serial);
        message.array(8, |fields| {
            for (code, kind, text) in [
                (1, "o", self.path),
                (2, "s", self.interface),
                (3, "s", self.member),
                (6, "s", self.destination),
            ] {
                fields.align(8);
                fields.0.push(code);
                fields.signature(kind);
                fields.text(text);
            }
            if !self.signature.is_empty() {
                fields.align(8);
                fields.0.push(8);
                fields.signature("g");
                fields.signature(self.signature);
            }
        });
        message.align(8);
        message.0.extend(self.body);
        message.0
    }
}

/// What came in.
#[derive(Debug, Default)]
pub(super) struct Message {
    kind: u8,
    pub(super) reply_to: Option<u32>,
    interface: String,
    pub(super) member: String,
    error_name: String,
    body: Vec<u8>,
}

const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

impl Message {
    /// The lengths of the header's fields and of the body.
    pub(super) fn lengths(start: &[u8; 16]) -> Result<(usize, usize), BusError> {
        let mut reader = Reader::new(start);
        let little_endian = reader.byte()? == b'l';
        reader.take(3)?;
        let body = reader.u32()?;
        reader.u32()?;
        let fields = reader.u32()?;
        let (fields, body) = (to_usize(fields), to_usize(body));
        if !little_endian || fields.max(body) > MAX_MESSAGE_BYTES {
            return Err(BusError::Malformed);
        }
        Ok((fields, body))
    }

    pub(super) fn decode(start: &[u8; 16], rest: &[u8]) -> Result<Self, BusError> {
        let (fields, _) = Self::lengths(start)?;
        let (header, body) = rest
            .split_at_checked(fields.next_multiple_of(8))
            .ok_or(BusError::Malformed)?;
        let mut message = Self {
            kind: start[1],
            body: body.to_vec(),
            ..Self::default()
        };
        let mut reader = Reader::new(header.get(..fields).ok_or(BusError::Malformed)?);
        while !reader.is_at_end() {
            reader.align(8)?;
            let code = reader.byte()?;
            match (code, reader.signature()?.as_str()) {
                (2, "s") => message.interface = reader.text()?,
                (3, "s") => message.member = reader.text()?,
                (4, "s") => message.error_name = reader.text()?,
                (5, "u") => message.reply_to = Some(reader.u32()?),
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.u32()?),
                _ => return Err(BusError::Malformed),
            }
        }
        Ok(message)
    }

    /// The body of a reply, or the error that it is.
    pub(super) fn into_body(self) -> Result<Vec<u8>, BusError> {
        if self.kind == ERROR {
            // By convention the first argument of an error is its text.
            let message = Reader::new(&self.body).text().unwrap_or_default();
            return Err(BusError::Call {
                name: self.error_name,
                message,
            });
        }
        Ok(self.body)
    }

    /// The job's path and result, if this says that a job has ended.
    pub(super) fn removed_job(&self) -> Option<(String, String)> {
        let ours = self.kind == SIGNAL && self.member == "JobRemoved" && self.interface == MANAGER;
        if !ours {
            return None;
        }
        // uoss: number, path, unit, result.
        let mut reader = Reader::new(&self.body);
        reader.u32().ok()?;
        let path = reader.text().ok()?;
        reader.text().ok()?;
        Some((path, reader.text().ok()?))
    }
}
