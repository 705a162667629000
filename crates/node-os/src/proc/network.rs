//! Network interfaces as a process sees them.

use super::Proc;
use crate::read::{self, ReadError};

/// Counters of an interface since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// The interface's name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors while receiving.
    pub rx_errors: u64,
    /// Packets dropped while receiving.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors while sending.
    pub tx_errors: u64,
    /// Packets dropped while sending.
    pub tx_dropped: u64,
}

impl Proc {
    /// The counters of all interfaces in a process' network namespace, loopback included.
    ///
    /// # Errors
    /// When the process is gone or the file unreadable.
    pub fn network(&self, pid: u32) -> Result<Vec<InterfaceCounters>, ReadError> {
        let text = read::text(&self.path(&format!("proc/{pid}/net/dev")))?;
        Ok(text.lines().filter_map(parse).collect())
    }
}

/// `eth0: 1 2 3 ...`: eight columns received, eight sent. The two lines of headings have no numbers.
fn parse(line: &str) -> Option<InterfaceCounters> {
    let (name, numbers) = line.split_once(':')?;
    let mut numbers = numbers
        .split_whitespace()
        .map_while(|word| word.parse().ok());
    let mut next = || numbers.next();
    let (rx_bytes, rx_packets, rx_errors, rx_dropped) = (next()?, next()?, next()?, next()?);
    // fifo, frame, compressed, multicast
    for _ in 0..4 {
        next()?;
    }
    Some(InterfaceCounters {
        name: name.trim().to_owned(),
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        tx_bytes: next()?,
        tx_packets: next()?,
        tx_errors: next()?,
        tx_dropped: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_their_columns() {
        let line = "  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
        let expected = InterfaceCounters {
            name: "eth0".to_owned(),
            rx_bytes: 1,
            rx_packets: 2,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 9,
            tx_packets: 10,
            tx_errors: 11,
            tx_dropped: 12,
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(" face |bytes packets errs"), None);
        let own = Proc::new().network(std::process::id()).unwrap();
        assert!(own.iter().any(|interface| interface.name == "lo"));
    }
}
