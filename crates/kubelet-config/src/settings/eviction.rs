//! Eviction thresholds (CFG-42, FLAG-32; upstream `ParseThresholdConfig`).

use std::collections::BTreeMap;
use std::time::Duration;

use daemon::pflag::GoDuration;
use kubelet_core::quantity;

use crate::config::{KubeletConfiguration, TextMap};

/// When pods are evicted.
#[derive(Debug, Clone, PartialEq)]
pub struct EvictionSettings {
    /// Hard thresholds, then soft ones, each by signal.
    pub thresholds: Vec<Threshold>,
    /// Time that a pressure condition outlives the pressure.
    pub pressure_transition_period: Duration,
    /// Longest time that a softly evicted pod gets to end; `None` for the pod's own.
    pub max_pod_grace_period: Option<Duration>,
    /// Have the kernel tell when memory thresholds are crossed.
    pub kernel_memcg_notification: bool,
    /// Leave hard thresholds out of allocatable (deprecated flag).
    pub ignored_in_allocatable: bool,
}

/// One threshold: evict when less than `value` is left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// What is watched.
    pub signal: Signal,
    /// How little is too little.
    pub value: ThresholdValue,
    /// How long it may last; zero for a hard threshold.
    pub grace_period: Duration,
    /// How much more an eviction frees.
    pub min_reclaim: Option<ThresholdValue>,
}

/// An amount, absolute or by capacity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ThresholdValue {
    /// Bytes, inodes or processes.
    Amount(u64),
    /// Part of the capacity, 0 to 1.
    Fraction(f64),
}

/// What a threshold watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// `memory.available`
    MemoryAvailable,
    /// `allocatableMemory.available`
    AllocatableMemoryAvailable,
    /// `nodefs.available`
    NodefsAvailable,
    /// `nodefs.inodesFree`
    NodefsInodesFree,
    /// `imagefs.available`
    ImagefsAvailable,
    /// `imagefs.inodesFree`
    ImagefsInodesFree,
    /// `containerfs.available`
    ContainerfsAvailable,
    /// `containerfs.inodesFree`
    ContainerfsInodesFree,
    /// `pid.available`
    PidAvailable,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 9] = [
        Self::MemoryAvailable,
        Self::AllocatableMemoryAvailable,
        Self::NodefsAvailable,
        Self::NodefsInodesFree,
        Self::ImagefsAvailable,
        Self::ImagefsInodesFree,
        Self::ContainerfsAvailable,
        Self::ContainerfsInodesFree,
        Self::PidAvailable,
    ];

    /// Upstream's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::AllocatableMemoryAvailable => "allocatableMemory.available",
            Self::NodefsAvailable => "nodefs.available",
            Self::NodefsInodesFree => "nodefs.inodesFree",
            Self::ImagefsAvailable => "imagefs.available",
            Self::ImagefsInodesFree => "imagefs.inodesFree",
            Self::ContainerfsAvailable => "containerfs.available",
            Self::ContainerfsInodesFree => "containerfs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|signal| signal.as_str() == text)
            .ok_or_else(|| format!("unsupported eviction signal {text}"))
    }
}

/// Reads all of it; problems go to `problems`, with the field they are in.
pub(super) fn build(
    config: &KubeletConfiguration,
    ignored_in_allocatable: bool,
    problems: &mut Vec<String>,
) -> EvictionSettings {
    let mut each =
        |field: &str, map: &TextMap, read: &mut dyn FnMut(&str, &str) -> Result<(), String>| {
            for (signal, value) in map.iter().flatten() {
                if let Err(problem) = read(signal, value) {
                    problems.push(format!("invalid configuration: {field}: {problem}"));
                }
            }
        };
    let (mut hard, mut soft) = (BTreeMap::new(), BTreeMap::new());
    let (mut periods, mut reclaims) = (BTreeMap::new(), BTreeMap::new());
    for (field, map, out) in [
        (
            "evictionHard (--eviction-hard)",
            &config.eviction_hard,
            &mut hard,
        ),
        (
            "evictionSoft (--eviction-soft)",
            &config.eviction_soft,
            &mut soft,
        ),
    ] {
        each(field, map, &mut |signal, value| {
            let signal = Signal::parse(signal)?;
            if let Some(value) = threshold_value(signal, value)? {
                out.insert(signal, value);
            }
            Ok(())
        });
    }
    let field = "evictionSoftGracePeriod (--eviction-soft-grace-period)";
    each(
        field,
        &config.eviction_soft_grace_period,
        &mut |signal, value| {
            periods.insert(Signal::parse(signal)?, grace_period(value)?);
            Ok(())
        },
    );
    let field = "evictionMinimumReclaim (--eviction-minimum-reclaim)";
    each(
        field,
        &config.eviction_minimum_reclaim,
        &mut |signal, value| {
            let signal = Signal::parse(signal)?;
            reclaims.insert(signal, minimum_reclaim(signal, value)?);
            Ok(())
        },
    );
    let threshold = |signal: Signal, value: ThresholdValue, grace_period: Duration| Threshold {
        signal,
        value,
        grace_period,
        min_reclaim: reclaims.get(&signal).copied(),
    };
    let mut thresholds: Vec<Threshold> = hard
        .into_iter()
        .map(|(signal, value)| threshold(signal, value, Duration::ZERO))
        .collect();
    for (signal, value) in soft {
        match periods.get(&signal) {
            Some(period) => thresholds.push(threshold(signal, value, *period)),
            None => problems.push(format!(
                "invalid configuration: grace period must be specified for the soft eviction \
                 threshold {}",
                signal.as_str()
            )),
        }
    }
    let grace = config.eviction_max_pod_grace_period;
    EvictionSettings {
        thresholds,
        pressure_transition_period: config
            .eviction_pressure_transition_period
            .0
            .to_std_or_zero(),
        max_pod_grace_period: u64::try_from(grace).ok().map(Duration::from_secs),
        kernel_memcg_notification: config.kernel_memcg_notification,
        ignored_in_allocatable,
    }
}

fn fraction(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%');
    let percent: f64 = number
        .parse()
        .ok()
        .filter(|percent: &f64| percent.is_finite())
        .ok_or_else(|| format!("{text} is not a percentage"))?;
    Ok(percent / 100.0)
}

/// `None` for 0 % and 100 %, which upstream takes for "no threshold".
fn threshold_value(signal: Signal, text: &str) -> Result<Option<ThresholdValue>, String> {
    let name = signal.as_str();
    if text.ends_with('%') {
        if matches!(text, "0%" | "100%") {
            return Ok(None);
        }
        let fraction = fraction(text)?;
        if fraction < 0.0 {
            return Err(format!(
                "eviction percentage threshold {name} must be >= 0%: {text}"
            ));
        }
        if fraction > 1.0 {
            return Err(format!(
                "eviction percentage threshold {name} must be <= 100%: {text}"
            ));
        }
        return Ok(Some(ThresholdValue::Fraction(fraction)));
    }
    let quantity = quantity::parse(text).map_err(|error| error.to_string())?;
    if quantity.is_zero() || quantity.is_negative() {
        return Err(format!(
            "eviction threshold {name} must be positive: {text}"
        ));
    }
    Ok(Some(amount(quantity)))
}

fn minimum_reclaim(signal: Signal, text: &str) -> Result<ThresholdValue, String> {
    let name = signal.as_str();
    if text.ends_with('%') {
        let fraction = fraction(text)?;
        if fraction <= 0.0 {
            return Err(format!(
                "eviction percentage minimum reclaim {name} must be positive: {text}"
            ));
        }
        return Ok(ThresholdValue::Fraction(fraction));
    }
    let quantity = quantity::parse(text).map_err(|error| error.to_string())?;
    if quantity.is_negative() {
        return Err(format!(
            "negative eviction minimum reclaim specified for {name}"
        ));
    }
    Ok(amount(quantity))
}

/// Whole units; what 64 bits don't hold is the most they do.
fn amount(quantity: quantity::Quantity) -> ThresholdValue {
    ThresholdValue::Amount(u64::try_from(quantity.value()).unwrap_or_default())
}

fn grace_period(text: &str) -> Result<Duration, String> {
    let duration: GoDuration = text.parse().map_err(|error| format!("{error}"))?;
    duration.to_std().ok_or_else(|| {
        format!("invalid eviction grace period specified: {text}, must be a positive value")
    })
}
