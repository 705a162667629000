//! As much of D-Bus as three calls to systemd need: authentication by uid, method calls, replies,
//! and the one signal that says that a job has ended. Written against the D-Bus specification,
//! little-endian only; a full client would be many times the size of the driver.

mod message;
mod wire;

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use self::{
    message::{Call, MANAGER, Message, NAME},
    wire::{Reader, Writer},
};

/// A job may start after others; upstream waits as long.
const TIMEOUT: Duration = Duration::from_secs(30);

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

#[cfg(test)]
mod tests;
