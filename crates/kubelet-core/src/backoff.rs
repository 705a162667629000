//! Waiting longer after each failure: one value type for restarts of containers (CTR-22), image
//! pulls (IMG-04) and everything else that retries.
//!
//! The state lives in memory only. After a restart of the kubelet the first retry is immediate, as
//! upstream's is; no correctness rests on it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::ids::{PodKey, PodUid, pod_in_message};

/// How a delay grows and when it is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// The first delay.
    pub initial: Duration,
    /// No delay is longer.
    pub max: Duration,
    /// The history is forgotten when an event comes later than this after the last one.
    pub reset_after: Duration,
}

impl BackoffPolicy {
    /// Restarts: 10 s doubling to 300 s, forgotten after 600 s (CTR-22).
    pub const CRASH_LOOP: Self = Self {
        initial: Duration::from_secs(10),
        max: Duration::from_mins(5),
        reset_after: Duration::from_mins(10),
    };

    /// Restarts with gate `ReduceDefaultCrashLoopBackOffDecay`: 1 s doubling to 60 s.
    pub const CRASH_LOOP_REDUCED: Self = Self {
        initial: Duration::from_secs(1),
        max: Duration::from_mins(1),
        reset_after: Duration::from_mins(10),
    };

    /// Pulls: 10 s doubling to 300 s, forgotten after 600 s (IMG-04).
    pub const IMAGE_PULL: Self = Self::CRASH_LOOP;

    /// The policy with another longest delay (`crashLoopBackOff.maxContainerRestartPeriod`, gate
    /// `KubeletCrashLoopBackOffMax`); the first delay shrinks with it.
    #[must_use]
    pub fn with_max(self, max: Duration) -> Self {
        Self {
            initial: self.initial.min(max),
            max,
            ..self
        }
    }
}

/// How long a volume that could not be set up waits after so many failures before: 500 ms doubling to 2 min 2 s
/// (VOL-01). Source of behaviour: Kubernetes `exponentialbackoff` of volume operations.
pub fn mount_delay(failures_before: u32) -> Duration {
    const INITIAL: Duration = Duration::from_millis(500);
    const MAX: Duration = Duration::from_secs(122);
    INITIAL
        .saturating_mul(2_u32.saturating_pow(failures_before))
        .min(MAX)
}

/// How long a gRPC client waits after so many failed dials before this one: 1 s, then 1.6 times as long each time,
/// by a fifth more or less as `unit` (0 to 1) says, around 2 min at most (PROBE-11). Source of behaviour: grpc-go,
/// `backoff.DefaultConfig`.
pub fn dial_delay(failures_before: u32, unit: f64) -> Duration {
    const INITIAL: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_mins(2);
    const GROWTH: f64 = 1.6;
    const JITTER: f64 = 0.2;
    if failures_before == 0 {
        return INITIAL;
    }
    let grown = INITIAL.as_secs_f64() * GROWTH.powf(failures_before.into());
    let jitter = JITTER.mul_add(unit.mul_add(2.0, -1.0), 1.0);
    Duration::from_secs_f64(grown.min(MAX.as_secs_f64()) * jitter)
}

/// The delay that one key has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the latest failure.
    pub delay: Duration,
    /// When it was set.
    pub updated_at: Timestamp,
}

/// A wait that has not passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// The whole delay, as messages name it.
    pub delay: Duration,
    /// When it ends.
    pub until: Timestamp,
}

/// Delays by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoffs<K: Ord> {
    policy: BackoffPolicy,
    entries: BTreeMap<K, Backoff>,
}

impl<K: Ord> Backoffs<K> {
    /// Nothing waits yet.
    pub fn new(policy: BackoffPolicy) -> Self {
        Self {
            policy,
            entries: BTreeMap::new(),
        }
    }

    /// The delay of a key, if it has one.
    pub fn get(&self, key: &K) -> Option<Backoff> {
        self.entries.get(key).copied()
    }

    /// The wait of a key, counted from `event` (for restarts: when the container ended, CTR-22),
    /// if it lasts beyond `now`.
    ///
    /// Differs: an event of the future, where a clock is that was set back, counts from the entry's
    /// own time, and not at all if that is in the future too; upstream waits until the clock is
    /// there again, be it for days.
    pub fn wait_since(&self, key: &K, event: Timestamp, now: Timestamp) -> Option<Wait> {
        let entry = self.entries.get(key)?;
        let event = if event > now { entry.updated_at } else { event };
        if event > now || self.is_forgotten(entry, event) {
            return None;
        }
        let until = later(event, entry.delay);
        (now < until).then_some(Wait {
            delay: entry.delay,
            until,
        })
    }

    /// The wait of a key, counted from its latest failure (image pulls, IMG-04), if it lasts beyond
    /// `now`.
    pub fn wait(&self, key: &K, now: Timestamp) -> Option<Wait> {
        let entry = self.entries.get(key)?;
        self.wait_since(key, entry.updated_at, now)
            .filter(|_| !self.is_forgotten(entry, now))
    }

    /// Notes a failure that happened at `event` and is handled `now`: the next delay is twice the
    /// last, or the first one. `jitter` is added, and the longest delay bounds the sum.
    pub fn fail(&mut self, key: K, event: Timestamp, now: Timestamp, jitter: Duration) -> Duration {
        let policy = self.policy;
        let delay = match self.entries.get(&key) {
            Some(entry) if !self.is_forgotten(entry, event) => entry.delay.saturating_mul(2),
            _ => policy.initial,
        };
        let delay = delay.saturating_add(jitter).min(policy.max);
        self.entries.insert(
            key,
            Backoff {
                delay,
                updated_at: now,
            },
        );
        delay
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// Forgets all that is old enough, so that memory is bounded by what fails now.
    pub fn collect_garbage(&mut self, now: Timestamp) {
        let reset_after = self.policy.reset_after;
        self.entries
            .retain(|_, entry| now <= later(entry.updated_at, reset_after));
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn is_forgotten(&self, entry: &Backoff, event: Timestamp) -> bool {
        event > later(entry.updated_at, self.policy.reset_after)
    }
}

/// The time after a wait; the end of time instead of an overflow.
pub fn later(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// `base` × (1 .. 1 + `factor`), the place chosen by `unit` in 0..1: retries of many pods spread
/// out (LIFE-03, LIFE-04). The caller brings the randomness.
pub fn jittered(base: Duration, factor: f64, unit: f64) -> Duration {
    base.mul_f64(1.0 + factor.max(0.0) * unit.clamp(0.0, 1.0))
}

/// What a restart delay belongs to (CTR-22): a change of image or resources starts afresh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CrashKey(String);

impl CrashKey {
    /// The key of one container of a pod.
    pub fn new(pod: &Pod, container: &Container) -> Self {
        let PodKey { namespace, name } = PodKey::of(pod);
        let resources = container
            .resources
            .as_ref()
            .and_then(|resources| serde_json::to_string(resources).ok())
            .unwrap_or_default();
        let image = container.image.as_deref().unwrap_or_default();
        let uid = PodUid::of(pod);
        Self(format!(
            "{name}/{namespace}/{uid}/{}/{image}/{resources}",
            container.name
        ))
    }
}

/// What a pull delay belongs to (IMG-04).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PullKey {
    /// The pod that wants the image.
    pub pod: PodUid,
    /// The image as the pod names it.
    pub image: String,
}

/// Waiting message of a container in `CrashLoopBackOff` (CTR-22).
pub fn crash_loop_message(pod: &Pod, container: &str, delay: Duration) -> String {
    format!(
        "back-off {} restarting failed container={container} pod={}",
        go_duration(delay),
        pod_in_message(pod)
    )
}

/// Message of the event `BackOff` for a restart (CTR-22).
pub fn crash_loop_event(pod: &Pod, container: &str) -> String {
    format!(
        "Back-off restarting failed container {container} in pod {}",
        pod_in_message(pod)
    )
}

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`, `1.5s`, `250ms`. Messages carry it.
pub fn go_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let nanos = duration.subsec_nanos();
    if duration.as_secs() == 0 {
        let (divisor, unit) = match nanos {
            0..1_000 => return format!("{nanos}ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!(
            "{}{unit}",
            decimal(u64::from(nanos / divisor), nanos % divisor, divisor)
        );
    }
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = decimal(seconds % 60, nanos, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// `whole.fraction` with `fraction / divisor` behind the point, without trailing zeros.
fn decimal(whole: u64, fraction: u32, divisor: u32) -> String {
    if fraction == 0 {
        return whole.to_string();
    }
    let width = divisor.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_11_dials_lie_apart_as_those_of_grpc() {
        let waits = [(0, 1.0), (1, 0.5), (2, 0.5), (2, 0.0), (2, 1.0), (11, 0.5)];
        assert_eq!(
            waits.map(|(failures, unit)| dial_delay(failures, unit).as_millis()),
            [1000, 1600, 2560, 2048, 3072, 120_000]
        );
        assert!(dial_delay(u32::MAX, 1.0) <= Duration::from_secs(144));
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn ctr_22_first_restart_is_immediate_then_delays_double_to_the_cap() {
        let mut backoffs = Backoffs::new(BackoffPolicy::CRASH_LOOP);
        assert_eq!(backoffs.wait_since(&"c", at(0), at(0)), None);
        let delays: Vec<_> = (0..7)
            .map(|now| {
                backoffs
                    .fail("c", at(now), at(now), Duration::ZERO)
                    .as_secs()
            })
            .collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ctr_22_wait_counts_from_the_end_of_the_container() {
        let mut backoffs = Backoffs::new(BackoffPolicy::CRASH_LOOP);
        backoffs.fail("c", at(0), at(1), Duration::ZERO);
        let wait = backoffs.wait_since(&"c", at(5), at(14)).unwrap();
        assert_eq!(
            wait,
            Wait {
                delay: secs(10),
                until: at(15)
            }
        );
        assert_eq!(backoffs.wait_since(&"c", at(5), at(15)), None);
    }

    #[test]
    fn ctr_22_history_is_forgotten_after_ten_quiet_minutes() {
        let mut backoffs = Backoffs::new(BackoffPolicy::CRASH_LOOP);
        backoffs.fail("c", at(0), at(0), Duration::ZERO);
        backoffs.fail("c", at(1), at(1), Duration::ZERO);
        assert_eq!(backoffs.wait_since(&"c", at(602), at(602)), None);
        assert_eq!(
            backoffs.fail("c", at(602), at(602), Duration::ZERO),
            secs(10)
        );
        backoffs.collect_garbage(at(1300));
        assert!(backoffs.is_empty());
    }

    #[test]
    fn a_clock_that_is_set_back_ends_a_wait_and_never_stretches_it() {
        let mut backoffs = Backoffs::new(BackoffPolicy::CRASH_LOOP);
        backoffs.fail("c", at(7200), at(7200), Duration::ZERO);
        assert_eq!(backoffs.wait_since(&"c", at(7201), at(3600)), None);
        // The container's next end is of the new clock, and the delay has grown.
        assert_eq!(
            backoffs.fail("c", at(3601), at(3601), Duration::ZERO),
            secs(20)
        );
        let wait = backoffs.wait_since(&"c", at(3602), at(3603)).unwrap();
        assert_eq!(wait.until, at(3622));
        // A runtime whose clock is ahead of ours: our own note counts.
        let wait = backoffs.wait_since(&"c", at(3660), at(3603)).unwrap();
        assert_eq!(wait.until, at(3621));
    }

    #[test]
    fn img_04_pull_delay_counts_from_the_failure() {
        let mut backoffs = Backoffs::new(BackoffPolicy::IMAGE_PULL);
        let key = PullKey {
            pod: PodUid::from("u"),
            image: "a".to_owned(),
        };
        backoffs.fail(key.clone(), at(0), at(0), Duration::ZERO);
        assert_eq!(backoffs.wait(&key, at(9)).unwrap().until, at(10));
        assert_eq!(backoffs.wait(&key, at(10)), None);
        assert_eq!(
            backoffs.wait(
                &PullKey {
                    image: "b".to_owned(),
                    ..key
                },
                at(1)
            ),
            None
        );
    }

    #[test]
    fn jitter_never_passes_the_cap() {
        let mut backoffs = Backoffs::new(BackoffPolicy::CRASH_LOOP.with_max(secs(5)));
        assert_eq!(backoffs.fail("c", at(0), at(0), secs(3)), secs(5));
        assert_eq!(jittered(secs(10), 0.5, 1.0), secs(15));
        assert_eq!(jittered(secs(10), 0.5, 0.0), secs(10));
    }

    #[test]
    fn durations_read_as_in_go() {
        for (millis, text) in [
            (0, "0s"),
            (10_000, "10s"),
            (80_000, "1m20s"),
            (300_000, "5m0s"),
            (3_600_000, "1h0m0s"),
            (1_500, "1.5s"),
            (250, "250ms"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(go_duration(Duration::from_nanos(1_500)), "1.5µs");
    }

    #[test]
    fn changed_image_or_resources_is_another_key() {
        let pod = Pod::default();
        let container = Container {
            name: "c".to_owned(),
            ..Default::default()
        };
        let changed = Container {
            image: Some("b".to_owned()),
            ..container.clone()
        };
        assert_ne!(
            CrashKey::new(&pod, &container),
            CrashKey::new(&pod, &changed)
        );
    }

    #[test]
    fn vol_01_mount_delays_double_up_to_two_minutes() {
        assert_eq!(mount_delay(0), Duration::from_millis(500));
        assert_eq!(mount_delay(3), Duration::from_secs(4));
        assert_eq!(mount_delay(8), Duration::from_secs(122));
        assert_eq!(mount_delay(u32::MAX), Duration::from_secs(122));
    }
}
