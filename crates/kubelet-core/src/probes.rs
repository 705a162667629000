//! When a container's probes are asked, and what the answers add up to (PROBE-01..07).
//!
//! Kubernetes kubelet, `prober.worker` and its results manager, as plain data: no clock, no task, no
//! request. The caller shows what runs ([`ContainerProbes::look`]), asks what [`ContainerProbes::due`]
//! names, brackets each request with [`ContainerProbes::begin`] and [`ContainerProbes::end`], and
//! reads [`ContainerProbes::results`].
//!
//! ```text
//!             another container                 startup passed
//!  (nothing) ───────────────────▶ not started ────────────────▶ started
//!                                   │ startup probe               │ liveness, readiness probes
//!                                   ▼ threshold of failures       ▼ threshold of failures of liveness
//!                                  held until another container comes
//! ```
//!
//! A run of equal answers goes on in the container's next instance: one that crashed after two bad
//! answers leaves them to its successor. A run that came to its end (a container restarted for its
//! liveness probe, a startup probe that passed or failed) does not (PROBE-05).

mod asker;
pub mod http;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};

use crate::actions::{ProbeResult, ProbeResults};
use crate::ids::ContainerId;
pub use crate::moment::Moment;

use asker::{Asker, Ended};

/// A readiness probe is first asked this long after its container has started: as long as the
/// original takes on average to see that it runs. Asked at once, a server of some milliseconds would
/// be found dead and wait for a whole period.
pub const SETTLE: Duration = Duration::from_millis(500);

/// Ticks fall on multiples of this on the caller's clock, so that probes of many containers are due
/// together and one wake-up serves them all. The original's ticks lie anywhere; nobody can tell.
pub const BEAT: Duration = Duration::from_millis(500);

/// The beat of commands: each is some processes to start, which are better spread.
pub const EXEC_BEAT: Duration = Duration::from_millis(100);

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Holds the others back until the container has started.
    Startup,
    /// Its failure restarts the container.
    Liveness,
    /// Its failure takes the container out of service.
    Readiness,
}

impl ProbeKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// The word in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// What holds before the probe has said anything (PROBE-02).
    const fn initial(self) -> ProbeResult {
        match self {
            Self::Startup => ProbeResult::Unknown,
            Self::Liveness => ProbeResult::Success,
            Self::Readiness => ProbeResult::Failure,
        }
    }

    /// The container's probe of this kind.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// The numbers of a probe, with upstream's defaults where the manifest is silent (PROBE-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// No request before the container has run this long.
    pub initial_delay: Duration,
    /// From request to request.
    pub period: Duration,
    /// A request that takes longer has failed.
    pub timeout: Duration,
    /// Good answers in a row that make a success.
    pub success_threshold: u32,
    /// Bad answers in a row that make a failure.
    pub failure_threshold: u32,
    /// Ticks fall on multiples of this: [`BEAT`] or [`EXEC_BEAT`].
    pub beat: Duration,
}

impl Timing {
    /// The probe's numbers. Those that validation would refuse become the least sensible ones.
    pub fn of(probe: &Probe) -> Self {
        let number = |value: Option<i32>, default: u64, least: u64| {
            value
                .and_then(|value| u64::try_from(value).ok())
                .filter(|value| *value > 0)
                .unwrap_or(default)
                .max(least)
        };
        let count = |value, default| u32::try_from(number(value, default, 1)).unwrap_or(u32::MAX);
        let seconds = |value, default, least| Duration::from_secs(number(value, default, least));
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0, 0),
            period: seconds(probe.period_seconds, 10, 1),
            timeout: seconds(probe.timeout_seconds, 1, 1),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
            beat: if probe.exec.is_some() {
                EXEC_BEAT
            } else {
                BEAT
            },
        }
    }

    /// The first beat at or after a moment.
    fn beat_from(&self, moment: Moment) -> Moment {
        let beat = self.beat.as_nanos();
        let beats = moment.as_nanos().div_ceil(beat);
        Moment::from_nanos(u64::try_from(beats * beat).unwrap_or(u64::MAX))
    }

    /// The beat that is nearest to a moment.
    fn beat_at(&self, moment: Moment) -> Moment {
        self.beat_from(moment.saturating_sub(self.beat / 2))
    }
}

/// One answer of a container to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// All is well.
    Good,
    /// It is not.
    Bad,
    /// The question could not be asked: it counts for nothing (PROBE-05).
    None,
}

/// The container that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The runtime's id.
    pub id: ContainerId,
    /// Since when it runs; `None` when it does not.
    pub running_since: Option<Moment>,
}

/// The probes of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerProbes {
    /// Whether anybody has looked yet.
    looked: bool,
    target: Option<Target>,
    startup: Option<Asker>,
    liveness: Option<Asker>,
    readiness: Option<Asker>,
}

impl ContainerProbes {
    /// Probes that ask first at `first_tick` and each of their periods from there; `None` for a
    /// container without probes.
    pub fn new(container: &Container, first_tick: impl Fn(Duration) -> Moment) -> Option<Self> {
        let mut probes = Self {
            looked: false,
            target: None,
            startup: None,
            liveness: None,
            readiness: None,
        };
        probes.edit(&Container::default(), container, first_tick);
        let any =
            probes.startup.is_some() || probes.liveness.is_some() || probes.readiness.is_some();
        any.then_some(probes)
    }

    /// The container's text is another now: `before` is what it was. Probes that are the same go on as if nothing
    /// had happened; one that has changed is asked as it stands now, and what it said last stays until it has
    /// said something else; one that is new begins, one that is no more has said nothing.
    ///
    /// Differs (PROBE-02): a probe that is edited in place is asked as it stands now; upstream goes on with the probe
    /// as it was first, and with the container's ports and variables of then, until the pod is gone.
    pub fn edit(
        &mut self,
        before: &Container,
        after: &Container,
        first_tick: impl Fn(Duration) -> Moment,
    ) {
        for kind in ProbeKind::ALL {
            let probe = kind.of(after);
            if probe == kind.of(before) {
                continue;
            }
            let timing = probe.map(Timing::of);
            let place = match kind {
                ProbeKind::Startup => &mut self.startup,
                ProbeKind::Liveness => &mut self.liveness,
                ProbeKind::Readiness => &mut self.readiness,
            };
            let edited = timing.map(|timing| {
                let first = first_tick(timing.period);
                match place.take() {
                    Some(asker) => asker.edited(timing, first),
                    None => Asker::new(timing, first),
                }
            });
            *place = edited;
        }
    }

    /// Takes note of the container that is there. A new one begins anew. One that ran before the first
    /// look was found by a kubelet that has just begun: it waits for its tick, so that not all
    /// containers of the node are asked at once (PROBE-03).
    ///
    /// One that is not ready is asked at each look whether it is by now, and each period from there (Kubernetes
    /// kubelet, `UpdatePodStatus`). Looks do not come of bad answers alone: [`Self::end`] tells of those once.
    pub fn look(&mut self, target: Option<Target>, now: Moment) {
        let first = !std::mem::replace(&mut self.looked, true);
        let before = self.open();
        let known = self.target.as_ref().map(|target| &target.id);
        let same = target
            .as_ref()
            .is_none_or(|target| Some(&target.id) == known);
        let began = self.running_since().is_none();
        if !same {
            for asker in self.askers() {
                asker.next_container();
            }
        }
        match (target, &mut self.target) {
            (Some(target), known) => *known = Some(target),
            (None, Some(gone)) => gone.running_since = None,
            (None, None) => {}
        }
        let kept = if same { before } else { [false; 3] };
        self.opened(kept, now);
        if (!same || began) && !first {
            self.settle();
        }
        self.nudge(now);
    }

    /// The pod ends, and the container is a regular one: only readiness is still of interest (PROBE-06), and
    /// not even that of one that has not started.
    pub fn stop_liveness_and_startup(&mut self) {
        for asker in [&mut self.startup, &mut self.liveness]
            .into_iter()
            .flatten()
        {
            asker.stop();
        }
    }

    /// The earliest moment at which a probe is to be asked; `None` while nothing is to be done.
    pub fn due(&self) -> Option<Moment> {
        ProbeKind::ALL
            .into_iter()
            .filter_map(|kind| self.due_of(kind))
            .min()
    }

    /// The probes that are to be asked now, and the container that they are about.
    pub fn due_now(&self, now: Moment) -> Vec<(ProbeKind, ContainerId)> {
        let Some(target) = &self.target else {
            return Vec::new();
        };
        ProbeKind::ALL
            .into_iter()
            .filter(|kind| self.due_of(*kind).is_some_and(|due| due <= now))
            .map(|kind| (kind, target.id.clone()))
            .collect()
    }

    /// A request is on its way; there is one of each kind at most.
    pub fn begin(&mut self, kind: ProbeKind, now: Moment) {
        if let Some(asker) = self.asker_mut(kind) {
            asker.begin(now);
        }
    }

    /// The request of [`Self::begin`] about the container `id` has ended. Tells whether the result of
    /// that container's probe is another now. The answer of a container that is no more is no result,
    /// but part of the run (PROBE-05).
    pub fn end(&mut self, kind: ProbeKind, id: &ContainerId, answer: Answer, now: Moment) -> bool {
        let before = self.open();
        let current = self.target.as_ref().is_some_and(|target| target.id == *id);
        let Some(asker) = self.asker_mut(kind) else {
            return false;
        };
        let Ended { reached, changed } = asker.end(answer, kind.initial());
        let changed = changed && current;
        let all_said = match kind {
            // A startup probe has said all it can say; a failed container is asked no more.
            ProbeKind::Startup => reached.is_some(),
            ProbeKind::Liveness => reached == Some(ProbeResult::Failure),
            ProbeKind::Readiness => false,
        };
        if all_said {
            asker.hold();
        }
        self.opened(before, now);
        if changed
            && kind == ProbeKind::Startup
            && let Some(readiness) = &mut self.readiness
        {
            // PROBE-07: what has just started is asked at once whether it is ready.
            readiness.ask_at(now);
        }
        changed
    }

    /// The container and what its probes say of it.
    pub fn results(&self) -> Option<(&ContainerId, ProbeResults)> {
        let target = self.target.as_ref()?;
        let result = |kind: ProbeKind| {
            let asker = self.asker(kind)?;
            Some(asker.result().unwrap_or(kind.initial()))
        };
        let results = ProbeResults {
            startup: result(ProbeKind::Startup),
            liveness: result(ProbeKind::Liveness),
            readiness: result(ProbeKind::Readiness),
        };
        Some((&target.id, results))
    }

    /// Whether the container runs and its startup probe, if it has one, has passed.
    fn started(&self) -> bool {
        self.startup
            .as_ref()
            .is_none_or(|startup| startup.result() == Some(ProbeResult::Success))
    }

    fn running_since(&self) -> Option<Moment> {
        self.target.as_ref()?.running_since
    }

    /// Which kinds may be asked at all now, in the order of [`ProbeKind::ALL`].
    fn open(&self) -> [bool; 3] {
        let (running, started) = (self.running_since().is_some(), self.started());
        [running && !started, running && started, running && started]
    }

    /// Ticks that passed while a probe was not asked are gone.
    fn opened(&mut self, before: [bool; 3], now: Moment) {
        let after = self.open();
        for (index, kind) in ProbeKind::ALL.into_iter().enumerate() {
            if after[index]
                && !before[index]
                && let Some(asker) = self.asker_mut(kind)
            {
                asker.skip_to(now);
            }
        }
    }

    /// Lets the first question about readiness come soon after the start.
    fn settle(&mut self) {
        let (started, since) = (self.started(), self.running_since());
        if let (true, Some(since), Some(readiness)) = (started, since, &mut self.readiness) {
            readiness.ask_at(since + SETTLE);
        }
    }

    /// Asks whether the container is ready, if it was not when it was asked last.
    fn nudge(&mut self, now: Moment) {
        let (started, since) = (self.started(), self.running_since());
        if let (true, Some(since), Some(readiness)) = (started, since, &mut self.readiness)
            && readiness.result() != Some(ProbeResult::Success)
        {
            readiness.nudge(now.max(since + SETTLE));
        }
    }

    fn due_of(&self, kind: ProbeKind) -> Option<Moment> {
        let since = self.running_since()?;
        let open = match kind {
            ProbeKind::Startup => !self.started(),
            ProbeKind::Liveness | ProbeKind::Readiness => self.started(),
        };
        if !open {
            return None;
        }
        self.asker(kind)?.due(since)
    }

    fn asker(&self, kind: ProbeKind) -> Option<&Asker> {
        match kind {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
        }
    }

    fn asker_mut(&mut self, kind: ProbeKind) -> Option<&mut Asker> {
        match kind {
            ProbeKind::Startup => self.startup.as_mut(),
            ProbeKind::Liveness => self.liveness.as_mut(),
            ProbeKind::Readiness => self.readiness.as_mut(),
        }
    }

    fn askers(&mut self) -> impl Iterator<Item = &mut Asker> {
        [&mut self.startup, &mut self.liveness, &mut self.readiness]
            .into_iter()
            .flatten()
    }
}

#[cfg(test)]
mod tests;
