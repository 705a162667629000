//! As much of D-Bus as three calls to systemd need: authentication by uid, method calls, replies,
//! and the one signal that says that a job has ended. Written against the D-Bus specification,
//! little-endian only; a full client would be many times the size of the driver.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

/// A job may start after others; upstream waits as long.
const TIMEOUT: Duration = Duration::from_secs(30);
/// No answer that we ask for is larger; the specification allows 128 MiB.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const BUS_NAME: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// A call over the bus failed.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The socket failed, or nothing came in time.
    #[error("talk to the system bus")]
    Io(#[from] io::Error),
    /// The other end closed the connection.
    #[error("the system bus closed the connection")]
    Closed,
    /// The bus does not accept our uid.
    #[error("the system bus refused us: {0:?}")]
    Refused(String),
    /// An answer was not as the specification says.
    #[error("the system bus answered with a malformed message")]
    Malformed,
    /// The call itself failed.
    #[error("{message}")]
    Call {
        /// The error's name.
        name: String,
        /// The error's text.
        message: String,
    },
}

impl BusError {
    /// Whether a call failed with the error of this name.
    pub(super) fn is_named(&self, wanted: &str) -> bool {
        matches!(self, Self::Call { name, .. } if name == wanted)
    }
}

/// The value of a unit's property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Texts(Vec<String>),
    Bool(bool),
    Number(u64),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
}

impl Bus {
    pub(super) fn connect(socket: &Path) -> Result<Self, BusError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut bus = Self {
            stream: BufReader::new(stream),
            serial: 0,
        };
        bus.authenticate()?;
        bus.call(&Call {
            member: "Hello",
            ..Call::TO_BUS
        })?;
        Ok(bus)
    }

    /// EXTERNAL: the kernel tells the other end our uid, which is sent as hexadecimal digits of its
    /// decimal text.
    fn authenticate(&mut self) -> Result<(), BusError> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let mut line = b"\0AUTH EXTERNAL ".to_vec();
        for byte in uid.bytes() {
            write!(line, "{byte:02x}")?;
        }
        line.extend(b"\r\n");
        self.stream.get_mut().write_all(&line)?;
        let mut answer = String::new();
        (&mut self.stream).take(1024).read_line(&mut answer)?;
        if !answer.starts_with("OK ") {
            return Err(BusError::Refused(answer.trim().to_owned()));
        }
        self.stream.get_mut().write_all(b"BEGIN\r\n")?;
        Ok(())
    }

    /// Starts a transient unit and waits for the end of the job; returns its result.
    pub(super) fn start_transient_unit(
        &mut self,
        unit: &str,
        properties: &[(&str, Value)],
    ) -> Result<String, BusError> {
        let body = start_arguments(unit, properties);
        self.job(&Call {
            member: "StartTransientUnit",
            signature: "ssa(sv)a(sa(sv))",
            body: &body.0,
            ..Call::TO_SYSTEMD
        })
    }

    /// Stops a unit and waits for the end of the job; returns its result.
    pub(super) fn stop_unit(&mut self, unit: &str) -> Result<String, BusError> {
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        self.job(&Call {
            member: "StopUnit",
            signature: "ss",
            body: &body.0,
            ..Call::TO_SYSTEMD
        })
    }

    /// Changes properties of a unit until the machine's next start.
    pub(super) fn set_unit_properties(
        &mut self,
        unit: &str,
        properties: &[(&str, Value)],
    ) -> Result<(), BusError> {
        let mut body = Writer::default();
        body.text(unit);
        body.bool(true);
        body.properties(properties);
        self.call(&Call {
            member: "SetUnitProperties",
            signature: "sba(sv)",
            body: &body.0,
            ..Call::TO_SYSTEMD
        })?;
        Ok(())
    }

    /// Makes a call that answers with a job, and waits for the signal that the job has ended. Asks
    /// for the signals first, so that a quick job is not missed.
    fn job(&mut self, call: &Call<'_>) -> Result<String, BusError> {
        let mut rule = Writer::default();
        rule.text(&format!(
            "type='signal',sender='{NAME}',interface='{MANAGER}',member='JobRemoved'"
        ));
        self.call(&Call {
            member: "AddMatch",
            signature: "s",
            body: &rule.0,
            ..Call::TO_BUS
        })?;
        // Without a subscriber systemd sends no signals of jobs.
        self.call(&Call {
            member: "Subscribe",
            ..Call::TO_SYSTEMD
        })?;
        let mut ended = Vec::new();
        let serial = self.send(call)?;
        let reply = self.receive_until(|message| {
            if let Some(job) = message.removed_job() {
                ended.push(job);
            }
            message.reply_to == Some(serial)
        })?;
        let job = Reader::new(&reply.into_body()?).text()?;
        if let Some((_, result)) = ended.into_iter().find(|(path, _)| *path == job) {
            return Ok(result);
        }
        let signal = self
            .receive_until(|message| message.removed_job().is_some_and(|(path, _)| path == job))?;
        signal
            .removed_job()
            .map(|(_, result)| result)
            .ok_or(BusError::Malformed)
    }

    fn call(&mut self, call: &Call<'_>) -> Result<Vec<u8>, BusError> {
        let serial = self.send(call)?;
        self.receive_until(|message| message.reply_to == Some(serial))?
            .into_body()
    }

    fn send(&mut self, call: &Call<'_>) -> Result<u32, BusError> {
        self.serial += 1;
        self.stream.get_mut().write_all(&call.encode(self.serial))?;
        Ok(self.serial)
    }

    fn receive_until(
        &mut self,
        mut wanted: impl FnMut(&Message) -> bool,
    ) -> Result<Message, BusError> {
        // Each message restarts the socket's own limit; a chatty bus must not hold us for ever.
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let message = self.receive()?;
            if wanted(&message) {
                return Ok(message);
            }
            if Instant::now() > deadline {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
        }
    }

    fn receive(&mut self) -> Result<Message, BusError> {
        let mut start = [0; 16];
        self.read_exact(&mut start)?;
        let (fields, body) = Message::lengths(&start)?;
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        self.read_exact(&mut rest)?;
        Message::decode(&start, &rest)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), BusError> {
        self.stream
            .read_exact(buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => BusError::Closed,
                // What the kernel calls it when the socket's limit has passed.
                io::ErrorKind::WouldBlock => io::Error::from(io::ErrorKind::TimedOut).into(),
                _ => error.into(),
            })
    }
}

/// The arguments of `StartTransientUnit`, `ssa(sv)a(sa(sv))`.
fn start_arguments(unit: &str, properties: &[(&str, Value)]) -> Writer {
    let mut body = Writer::default();
    body.text(unit);
    body.text("replace");
    body.properties(properties);
    // No auxiliary units.
    body.array(8, |_| {});
    body
}

struct Call<'a> {
    destination: &'a str,
    path: &'a str,
    interface: &'a str,
    member: &'a str,
    signature: &'a str,
    body: &'a [u8],
}

impl Call<'_> {
    const TO_BUS: Self = Self {
        destination: BUS_NAME,
        path: BUS_PATH,
        interface: BUS_NAME,
        member: "",
        signature: "",
        body: &[],
    };
    const TO_SYSTEMD: Self = Self {
        destination: NAME,
        path: PATH,
        interface: MANAGER,
        member: "",
        signature: "",
        body: &[],
    };

    fn encode(&self, serial: u32) -> Vec<u8> {
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
struct Message {
    kind: u8,
    reply_to: Option<u32>,
    interface: String,
    member: String,
    error_name: String,
    body: Vec<u8>,
}

const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

impl Message {
    /// The lengths of the header's fields and of the body.
    fn lengths(start: &[u8; 16]) -> Result<(usize, usize), BusError> {
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

    fn decode(start: &[u8; 16], rest: &[u8]) -> Result<Self, BusError> {
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
    fn into_body(self) -> Result<Vec<u8>, BusError> {
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
    fn removed_job(&self) -> Option<(String, String)> {
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

/// Appends values in D-Bus' encoding; positions count from the beginning.
#[derive(Debug, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn bool(&mut self, value: bool) {
        self.u32(value.into());
    }

    fn text(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0
            .push(u8::try_from(text.len()).expect("signatures here are short"));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// The length does not count the padding before the first element.
    fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) {
        self.u32(0);
        let at = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        elements(self);
        let bytes = length(self.0.len() - start);
        self.0[at..at + 4].copy_from_slice(&bytes.to_le_bytes());
    }

    /// `a(sv)`.
    fn properties(&mut self, properties: &[(&str, Value)]) {
        self.array(8, |elements| {
            for (name, value) in properties {
                elements.align(8);
                elements.text(name);
                elements.variant(value);
            }
        });
    }

    fn variant(&mut self, value: &Value) {
        match value {
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Texts(texts) => {
                self.signature("as");
                self.array(4, |elements| {
                    for text in texts {
                        elements.text(text);
                    }
                });
            }
            Value::Bool(value) => {
                self.signature("b");
                self.bool(*value);
            }
            Value::Number(value) => {
                self.signature("t");
                self.align(8);
                self.0.extend(value.to_le_bytes());
            }
        }
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("what we send is short")
}

fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Takes values out of D-Bus' encoding.
#[derive(Debug)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], BusError> {
        let end = self.at.checked_add(count).ok_or(BusError::Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(BusError::Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Result<(), BusError> {
        self.take(self.at.next_multiple_of(to) - self.at).map(drop)
    }

    fn byte(&mut self) -> Result<u8, BusError> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, BusError> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| BusError::Malformed)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn text(&mut self) -> Result<String, BusError> {
        let length = to_usize(self.u32()?);
        self.terminated(length)
    }

    fn signature(&mut self) -> Result<String, BusError> {
        let length = usize::from(self.byte()?);
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Result<String, BusError> {
        let text = self.take(length)?.to_vec();
        self.take(1)?;
        String::from_utf8(text).map_err(|_| BusError::Malformed)
    }
}

#[cfg(test)]
mod tests;
