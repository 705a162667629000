//! Limits as contents of files, and back. Pure.

use super::{
    Version,
    resources::{CpuQuota, Limit, Resources, shares_from_weight, weight_from_shares},
};

/// One file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
}

/// Version 1's word for no limit.
const V1_NONE: &str = "-1";
const V2_NONE: &str = "max";
/// Version 1 shows no memory limit as the largest page-aligned number.
const V1_MEMORY_UNLIMITED: u64 = 0x7fff_ffff_ffff_f000;

/// The files to write, in the order to write them.
pub(super) fn plan_writes(version: Version, resources: &Resources) -> Vec<Write> {
    match version {
        Version::V1 => plan_v1(resources),
        Version::V2 => plan_v2(resources),
    }
}

fn plan_v1(resources: &Resources) -> Vec<Write> {
    let mut plan = Plan::default();
    plan.cpuset(resources);
    if let Some(shares) = resources.cpu_shares {
        plan.add("cpu", "cpu.shares", shares.clamp(2, 262_144).to_string());
    }
    if let Some(CpuQuota {
        quota_micros,
        period_micros,
    }) = resources.cpu_quota
    {
        plan.add("cpu", "cpu.cfs_period_us", period_micros.to_string());
        plan.add("cpu", "cpu.cfs_quota_us", limit(quota_micros, V1_NONE));
    }
    if let Some(bytes) = resources.memory_max_bytes {
        plan.add("memory", "memory.limit_in_bytes", limit(bytes, V1_NONE));
    }
    if let Some(pids) = resources.pids_max {
        plan.add("pids", "pids.max", limit(pids, V2_NONE));
    }
    for (size, bytes) in &resources.hugetlb_max_bytes {
        plan.add(
            "hugetlb",
            format!("hugetlb.{size}.limit_in_bytes"),
            bytes.to_string(),
        );
    }
    plan.0
}

fn plan_v2(resources: &Resources) -> Vec<Write> {
    let mut plan = Plan::default();
    plan.cpuset(resources);
    if let Some(shares) = resources.cpu_shares {
        plan.add("cpu", "cpu.weight", weight_from_shares(shares).to_string());
    }
    if let Some(CpuQuota {
        quota_micros,
        period_micros,
    }) = resources.cpu_quota
    {
        plan.add(
            "cpu",
            "cpu.max",
            format!("{} {period_micros}", limit(quota_micros, V2_NONE)),
        );
    }
    if let Some(bytes) = resources.memory_max_bytes {
        plan.add("memory", "memory.max", limit(bytes, V2_NONE));
    }
    if let Some(together) = resources.memory_oom_group {
        plan.add("memory", "memory.oom.group", u8::from(together).to_string());
    }
    if let Some(pids) = resources.pids_max {
        plan.add("pids", "pids.max", limit(pids, V2_NONE));
    }
    for (size, bytes) in &resources.hugetlb_max_bytes {
        plan.add("hugetlb", format!("hugetlb.{size}.max"), bytes.to_string());
    }
    for (file, value) in &resources.unified {
        plan.add("unified", file.clone(), value.clone());
    }
    plan.0
}

#[derive(Default)]
struct Plan(Vec<Write>);

impl Plan {
    fn add(&mut self, controller: &'static str, file: impl Into<String>, value: String) {
        self.0.push(Write {
            controller,
            file: file.into(),
            value,
        });
    }

    fn cpuset(&mut self, resources: &Resources) {
        if let Some(cpus) = &resources.cpuset_cpus {
            self.add("cpuset", "cpuset.cpus", cpus.clone());
        }
        if let Some(mems) = &resources.cpuset_mems {
            self.add("cpuset", "cpuset.mems", mems.clone());
        }
    }
}

fn limit(limit: Limit, none: &str) -> String {
    match limit {
        Limit::At(value) => value.to_string(),
        Limit::Max => none.to_owned(),
    }
}

/// The limits that a group's files tell; `file` gives a file's text by controller and name, `None`
/// where it is missing. What is missing or unreadable stays `None`.
pub(super) fn resources_from(
    version: Version,
    file: impl Fn(&'static str, &str) -> Option<String>,
) -> Resources {
    let mut resources = Resources {
        pids_max: file("pids", "pids.max").and_then(|text| parse_limit(&text)),
        ..Resources::default()
    };
    for (slot, name) in [
        (&mut resources.cpuset_cpus, "cpuset.cpus"),
        (&mut resources.cpuset_mems, "cpuset.mems"),
    ] {
        *slot = file("cpuset", name)
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty());
    }
    match version {
        Version::V1 => {
            resources.cpu_shares = file("cpu", "cpu.shares").and_then(|text| parse(&text));
            let quota = file("cpu", "cpu.cfs_quota_us").and_then(|text| parse_limit(&text));
            let period = file("cpu", "cpu.cfs_period_us").and_then(|text| parse(&text));
            resources.cpu_quota = quota
                .zip(period)
                .map(|(quota_micros, period_micros)| CpuQuota {
                    quota_micros,
                    period_micros,
                });
            resources.memory_max_bytes = file("memory", "memory.limit_in_bytes")
                .and_then(|text| parse_limit(&text))
                .map(|limit| {
                    if limit >= Limit::At(V1_MEMORY_UNLIMITED) {
                        Limit::Max
                    } else {
                        limit
                    }
                });
        }
        Version::V2 => {
            resources.cpu_shares = file("cpu", "cpu.weight")
                .and_then(|text| parse(&text))
                .map(shares_from_weight);
            resources.cpu_quota = file("cpu", "cpu.max").and_then(|text| {
                let (quota, period) = text.trim().split_once(' ')?;
                Some(CpuQuota {
                    quota_micros: parse_limit(quota)?,
                    period_micros: period.parse().ok()?,
                })
            });
            resources.memory_max_bytes =
                file("memory", "memory.max").and_then(|text| parse_limit(&text));
            resources.memory_oom_group =
                file("memory", "memory.oom.group").map(|text| text.trim() == "1");
        }
    }
    resources
}

fn parse(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn parse_limit(text: &str) -> Option<Limit> {
    match text.trim() {
        V1_NONE | V2_NONE => Some(Limit::Max),
        number => number.parse().ok().map(Limit::At),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn full() -> Resources {
        Resources {
            cpu_shares: Some(1024),
            cpu_quota: Some(CpuQuota {
                quota_micros: Limit::At(50_000),
                period_micros: 100_000,
            }),
            memory_max_bytes: Some(Limit::At(1 << 20)),
            pids_max: Some(Limit::Max),
            hugetlb_max_bytes: BTreeMap::from([("2MB".to_owned(), 0)]),
            memory_oom_group: Some(true),
            cpuset_cpus: Some("0-1".to_owned()),
            cpuset_mems: None,
            unified: BTreeMap::from([("memory.high".to_owned(), "max".to_owned())]),
        }
    }

    fn shown(version: Version, resources: &Resources) -> Vec<String> {
        plan_writes(version, resources)
            .iter()
            .map(|write| format!("{}: {}={}", write.controller, write.file, write.value))
            .collect()
    }

    #[test]
    fn version_1_files() {
        assert_eq!(
            shown(Version::V1, &full()),
            [
                "cpuset: cpuset.cpus=0-1",
                "cpu: cpu.shares=1024",
                "cpu: cpu.cfs_period_us=100000",
                "cpu: cpu.cfs_quota_us=50000",
                "memory: memory.limit_in_bytes=1048576",
                "pids: pids.max=max",
                "hugetlb: hugetlb.2MB.limit_in_bytes=0",
            ]
        );
    }

    #[test]
    fn version_2_files() {
        assert_eq!(
            shown(Version::V2, &full()),
            [
                "cpuset: cpuset.cpus=0-1",
                "cpu: cpu.weight=39",
                "cpu: cpu.max=50000 100000",
                "memory: memory.max=1048576",
                "memory: memory.oom.group=1",
                "pids: pids.max=max",
                "hugetlb: hugetlb.2MB.max=0",
                "unified: memory.high=max",
            ]
        );
    }

    #[test]
    fn nothing_asked_writes_nothing() {
        for version in [Version::V1, Version::V2] {
            assert_eq!(plan_writes(version, &Resources::default()), []);
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        for version in [Version::V1, Version::V2] {
            for memory in [Limit::At(4096), Limit::Max] {
                let wanted = Resources {
                    memory_max_bytes: Some(memory),
                    memory_oom_group: (version == Version::V2).then_some(true),
                    hugetlb_max_bytes: BTreeMap::new(),
                    unified: BTreeMap::new(),
                    cpu_shares: Some(shares_from_weight(39)),
                    ..full()
                };
                let files: BTreeMap<_, _> = plan_writes(version, &wanted)
                    .into_iter()
                    .map(|write| ((write.controller, write.file), write.value + "\n"))
                    .collect();
                let read = resources_from(version, |controller, name| {
                    files.get(&(controller, name.to_owned())).cloned()
                });
                assert_eq!(read, wanted);
            }
        }
    }

    #[test]
    fn version_1_shows_no_memory_limit_as_a_huge_number() {
        let read = resources_from(Version::V1, |_, name| {
            (name == "memory.limit_in_bytes").then(|| "9223372036854771712\n".to_owned())
        });
        assert_eq!(read.memory_max_bytes, Some(Limit::Max));
    }
}
