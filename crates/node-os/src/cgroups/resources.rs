//! Limits of a group, in the terms of Kubernetes.

use std::collections::BTreeMap;

/// A limit that may be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// So much.
    At(u64),
    /// No limit.
    Max,
}

/// CPU time per period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuQuota {
    /// Time per period in microseconds.
    pub quota_micros: Limit,
    /// The period in microseconds; Kubernetes' default is 100 000.
    pub period_micros: u64,
}

/// Limits; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Relative CPU weight as version 1 counts it, 2 to 262144 (CG-04 for version 2).
    pub cpu_shares: Option<u64>,
    /// CPU time.
    pub cpu_quota: Option<CpuQuota>,
    /// Memory in bytes.
    pub memory_max_bytes: Option<Limit>,
    /// Number of processes and threads.
    pub pids_max: Option<Limit>,
    /// Huge pages in bytes by page size as the kernel spells it (`2MB`, `1GB`).
    pub hugetlb_max_bytes: BTreeMap<String, u64>,
    /// Version 2: an out-of-memory kill takes the whole group.
    pub memory_oom_group: Option<bool>,
    /// CPUs, such as `0-3,8`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    pub cpuset_mems: Option<String>,
    /// Version 2: further files with their values (memory.high and the like).
    pub unified: BTreeMap<String, String>,
}

/// Smallest and largest `cpu.shares`.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
/// Smallest and largest `cpu.weight`.
const WEIGHTS: std::ops::RangeInclusive<u64> = 1..=10_000;

/// Version 2's weight for version 1's shares (CG-04): the two ranges mapped onto one another.
pub fn weight_from_shares(shares: u64) -> u64 {
    let shares = shares.clamp(*SHARES.start(), *SHARES.end());
    1 + (shares - 2) * 9_999 / 262_142
}

/// The smallest shares that have this weight.
pub fn shares_from_weight(weight: u64) -> u64 {
    let weight = weight.clamp(*WEIGHTS.start(), *WEIGHTS.end());
    2 + ((weight - 1) * 262_142).div_ceil(9_999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_upstream() {
        for (shares, weight) in [
            (0, 1),
            (2, 1),
            (102, 4),
            (1024, 39),
            (2048, 79),
            (262_144, 10_000),
        ] {
            assert_eq!(weight_from_shares(shares), weight, "{shares}");
        }
    }

    proptest::proptest! {
        #[test]
        fn weight_survives_the_way_back(weight in 1u64..=10_000) {
            proptest::prop_assert_eq!(weight_from_shares(shares_from_weight(weight)), weight);
        }
    }
}
