//! Lists of CPUs as the kernel and the kubelet write them: `0-3,7`.

use std::collections::BTreeSet;

use daemon::pflag::{NumberError, parse_int, quote};

/// More would be a mistake: the kernel's own limit is 8192.
const MOST_CPUS: i64 = 65_536;

/// A set of CPU numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuSet {
    cpus: BTreeSet<u32>,
}

/// A text that is no list of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuSetError {
    /// Not a number.
    #[error("{}", _0.to_string().replace("strconv.ParseInt", "strconv.Atoi"))]
    Number(NumberError),
    /// The end of a range is before its start.
    #[error("invalid range {} ({start} > {end})", quote(range))]
    Range {
        /// The range.
        range: String,
        /// Its start.
        start: i64,
        /// Its end.
        end: i64,
    },
    /// Negative, or no machine has it.
    #[error("cpu {0} is out of range 0 to 65535")]
    OutOfRange(i64),
}

impl CpuSet {
    /// Reads a list; an empty text is the empty set.
    ///
    /// # Errors
    /// [`CpuSetError`] for what upstream's `cpuset.Parse` refuses.
    pub fn parse(text: &str) -> Result<Self, CpuSetError> {
        let mut cpus = BTreeSet::new();
        for range in text.split(',').filter(|_| !text.is_empty()) {
            let number = |text: &str| parse_int(text, 10, 64).map_err(CpuSetError::Number);
            let (start, end) = match range.split_once('-') {
                Some((start, end)) => (number(start)?, number(end)?),
                None => (number(range)?, number(range)?),
            };
            if start > end {
                return Err(CpuSetError::Range {
                    range: range.to_owned(),
                    start,
                    end,
                });
            }
            for bound in [start, end] {
                if !(0..MOST_CPUS).contains(&bound) {
                    return Err(CpuSetError::OutOfRange(bound));
                }
            }
            cpus.extend((start..=end).filter_map(|cpu| u32::try_from(cpu).ok()));
        }
        Ok(Self { cpus })
    }

    /// The CPUs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.cpus.iter().copied()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.cpus.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read() {
        let set = CpuSet::parse("0-2,7,2").expect("valid");
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 2, 7]);
        assert_eq!(set.len(), 4);
        assert!(CpuSet::parse("").expect("valid").is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, message) in [
            ("a", "strconv.Atoi: parsing \"a\": invalid syntax"),
            ("3-1", "invalid range \"3-1\" (3 > 1)"),
            (
                "0-99999999999",
                "cpu 99999999999 is out of range 0 to 65535",
            ),
            ("1,,2", "strconv.Atoi: parsing \"\": invalid syntax"),
        ] {
            assert_eq!(CpuSet::parse(text).expect_err(text).to_string(), message);
        }
    }
}
