//! What the node has, and what of it is for pods (CG-20).

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use kubelet_config::{EvictionSettings, Reservation, Signal, Threshold, ThresholdValue};
use kubelet_core::{
    quantity::{Amounts, Format, Quantity},
    resources::{CgroupValues, PageSize, hugepage_sizes, node_cgroup_values},
};
use node_os::{
    proc::{Proc, ReadError},
    statfs::{self, StatFsError},
};

/// The node's resources are not known, or do not suffice.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CapacityError {
    /// The machine does not tell.
    #[error(transparent)]
    Machine(#[from] ReadError),
    /// The file system of the root directory cannot be looked at.
    #[error(transparent)]
    Storage(#[from] StatFsError),
    /// A file about huge pages cannot be read.
    #[error("read {path}")]
    HugePages {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More is reserved than there is (VAL-05).
    #[error("invalid Node Allocatable configuration. {}", .0.join(" "))]
    OverReserved(Vec<String>),
}

/// How many pods a node takes (CFG-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PodLimits {
    /// `maxPods`.
    pub(crate) max_pods: u32,
    /// `podsPerCore`.
    pub(crate) pods_per_core: Option<u32>,
}

/// What the node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// CPUs online.
    pub(crate) cpus: u32,
    /// Memory.
    pub(crate) memory_bytes: u64,
    /// Swap.
    pub(crate) swap_bytes: u64,
    /// The file system of the root directory; `None` where it is not accounted.
    pub(crate) ephemeral_storage_bytes: Option<u64>,
    /// Bytes in huge pages by page size in bytes.
    pub(crate) hugepages: BTreeMap<i64, i64>,
    /// Pods.
    pub(crate) pods: u32,
    /// Processes; only for reservations.
    pub(crate) pids: Option<u64>,
}

impl Capacity {
    /// Looks at the machine. `storage` is the kubelet's root directory, or `None` without
    /// `localStorageCapacityIsolation`. Blocks.
    ///
    /// # Errors
    /// When the machine does not tell its CPUs or memory, or the file system cannot be looked at.
    pub(crate) fn read(
        proc: &Proc,
        hugepages: &Path,
        storage: Option<&Path>,
        limits: PodLimits,
    ) -> Result<Self, CapacityError> {
        let memory = proc.meminfo()?;
        let cpus = proc.cpu_count()?;
        Ok(Self {
            cpus,
            memory_bytes: memory.total_bytes,
            swap_bytes: memory.swap_total_bytes,
            ephemeral_storage_bytes: storage
                .map(|path| statfs::usage(path).map(|usage| usage.capacity_bytes))
                .transpose()?,
            hugepages: read_hugepages(hugepages)?,
            pods: pods(limits, cpus),
            pids: proc.pid_limit().ok(),
        })
    }

    /// As the node's status shows it.
    pub(crate) fn amounts(&self) -> Amounts {
        let mut amounts = Amounts::from([
            (
                "cpu".to_owned(),
                Quantity::from_milli(i64::from(self.cpus) * 1000),
            ),
            ("memory".to_owned(), binary(self.memory_bytes)),
            (
                "pods".to_owned(),
                Quantity::from_value(i64::from(self.pods), Format::DecimalSi),
            ),
        ]);
        if let Some(bytes) = self.ephemeral_storage_bytes {
            amounts.insert("ephemeral-storage".to_owned(), binary(bytes));
        }
        for (page, bytes) in &self.hugepages {
            let page = Quantity::from_value(*page, Format::BinarySi);
            let bytes = Quantity::from_value(*bytes, Format::BinarySi);
            amounts.insert(format!("{HUGEPAGES}{page}"), bytes);
        }
        amounts
    }

    /// Sizes of huge pages that the kernel has.
    pub(crate) fn page_sizes(&self) -> Vec<PageSize> {
        hugepage_sizes(self.hugepages.keys().copied())
    }

    /// Values of the group of all pods (CG-10): without `pods` among the enforcements, nothing is
    /// taken off.
    pub(crate) fn node_values(&self, reserved: Option<&[Reservation]>) -> CgroupValues {
        let taken = reserved.map(sum).unwrap_or_default();
        let pids_taken: u64 = reserved
            .into_iter()
            .flatten()
            .fold(0, |sum, one| sum.saturating_add(one.pids));
        let pids = self
            .pids
            .map(|pids| clamped(pids.saturating_sub(pids_taken)));
        node_cgroup_values(&self.amounts(), &taken, pids)
    }
}

const HUGEPAGES: &str = "hugepages-";

fn pods(limits: PodLimits, cpus: u32) -> u32 {
    match limits.pods_per_core {
        Some(per_core) if per_core > 0 => limits.max_pods.min(cpus.saturating_mul(per_core)),
        _ => limits.max_pods,
    }
}

/// Where the kernel tells of huge pages.
pub(crate) const HUGEPAGES_DIRECTORY: &str = "/sys/kernel/mm/hugepages";

/// Reads `hugepages-<size>kB/nr_hugepages`; nothing where the kernel has none.
fn read_hugepages(directory: &Path) -> Result<BTreeMap<i64, i64>, CapacityError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CapacityError::HugePages { path, source }
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed(directory)(error)),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let name = entry.map_err(failed(directory))?.file_name();
        let kib = name.to_str().and_then(|name| {
            name.strip_prefix(HUGEPAGES)?
                .strip_suffix("kB")?
                .parse::<i64>()
                .ok()
        });
        let Some(kib) = kib else { continue };
        let path = directory.join(&name).join("nr_hugepages");
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        let pages: i64 = text
            .trim()
            .parse()
            .map_err(|_| failed(&path)(io::Error::from(io::ErrorKind::InvalidData)))?;
        let size = kib.saturating_mul(1024);
        found.insert(size, size.saturating_mul(pages));
    }
    Ok(found)
}

/// What is kept from pods, added up.
fn sum(reservations: &[Reservation]) -> Amounts {
    let mut amounts = Amounts::new();
    for one in reservations {
        for (name, amount) in [
            ("cpu", Quantity::from_milli(clamped(one.cpu_millicores))),
            ("memory", binary(one.memory_bytes)),
            ("ephemeral-storage", binary(one.ephemeral_storage_bytes)),
        ] {
            let entry = amounts.entry(name.to_owned()).or_default();
            *entry = entry.plus(amount);
        }
    }
    amounts
}

/// What eviction keeps free in any case. Only two signals are about amounts that pods ask for.
fn kept_by_eviction(capacity: &Amounts, eviction: &EvictionSettings) -> Amounts {
    let mut kept = Amounts::new();
    if eviction.ignored_in_allocatable {
        return kept;
    }
    for threshold in eviction
        .thresholds
        .iter()
        .filter(|one| one.grace_period.is_zero())
    {
        let name = match threshold.signal {
            Signal::MemoryAvailable => "memory",
            Signal::NodefsAvailable => "ephemeral-storage",
            _ => continue,
        };
        if let Some(whole) = capacity.get(name) {
            kept.insert(name.to_owned(), threshold_amount(threshold, *whole));
        }
    }
    kept
}

fn threshold_amount(threshold: &Threshold, whole: Quantity) -> Quantity {
    match threshold.value {
        ThresholdValue::Amount(amount) => binary(amount),
        ThresholdValue::Fraction(fraction) => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "upstream's own arithmetic, with its rounding: the result is shown to users"
            )]
            let bytes = (whole.value() as f64 * f64::from(fraction as f32)) as i64;
            Quantity::from_value(bytes, Format::BinarySi)
        }
    }
}

/// What of the node is for pods (CG-20): less what is reserved and what eviction keeps free, memory
/// also less what lies in huge pages; never less than nothing.
pub(crate) fn allocatable(
    capacity: &Amounts,
    reservations: &[Reservation],
    eviction: &EvictionSettings,
) -> Amounts {
    let reserved = sum(reservations);
    let kept = kept_by_eviction(capacity, eviction);
    let mut allocatable: Amounts = capacity
        .iter()
        .map(|(name, amount)| {
            let left = [&reserved, &kept]
                .into_iter()
                .filter_map(|taken| taken.get(name))
                .fold(*amount, |left, taken| left.minus(*taken));
            (name.clone(), not_negative(left))
        })
        .collect();
    let in_hugepages: Vec<Quantity> = capacity
        .iter()
        .filter(|(name, _)| name.starts_with(HUGEPAGES))
        .map(|(_, amount)| *amount)
        .collect();
    if let Some(memory) = allocatable.get_mut("memory") {
        for amount in in_hugepages {
            *memory = not_negative(memory.minus(amount));
        }
    }
    allocatable
}

/// That no more is kept from pods than there is.
///
/// # Errors
/// With upstream's text, naming each resource.
pub(crate) fn check_reservations(
    capacity: &Amounts,
    reservations: &[Reservation],
    eviction: &EvictionSettings,
) -> Result<(), CapacityError> {
    let reserved = sum(reservations);
    let kept = kept_by_eviction(capacity, eviction);
    let mut problems = Vec::new();
    for (name, whole) in capacity {
        let mut taken = Quantity::default();
        for amount in [&reserved, &kept]
            .into_iter()
            .filter_map(|amounts| amounts.get(name))
        {
            taken = taken.plus(*amount);
        }
        if whole.minus(taken).is_negative() {
            problems.push(format!(
                "Resource {name:?} has a reservation of {taken} but capacity of {whole}. Expected \
                 capacity >= reservation."
            ));
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(CapacityError::OverReserved(problems))
    }
}

fn not_negative(amount: Quantity) -> Quantity {
    if amount.is_negative() {
        Quantity::from_value(0, amount.format())
    } else {
        amount
    }
}

fn binary(bytes: u64) -> Quantity {
    Quantity::from_value(clamped(bytes), Format::BinarySi)
}

fn clamped(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
