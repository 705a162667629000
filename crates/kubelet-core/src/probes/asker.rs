//! One probe: its ticks, and the run of equal answers that makes a result.

use super::{Answer, Moment, Timing};
use crate::actions::ProbeResult;

/// One probe of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asker {
    timing: Timing,
    /// The next tick that has not been used; the others lie a period apart from here.
    next_tick: Moment,
    /// Asked out of turn, at this moment; its ticks are counted from there.
    out_of_turn: Option<Moment>,
    activity: Activity,
    /// Nothing has been asked yet: the first tick stands for all that comes before it (PROBE-03).
    fresh: bool,
    result: Option<ProbeResult>,
    last: Option<Answer>,
    run: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    /// Waits for its next tick.
    Waiting,
    /// A request is on its way.
    Asking,
    /// A request about an earlier container is on its way: its answer is no result of this one.
    AskingInVain,
    /// Nothing more to ask until another container comes.
    Held,
    /// Nothing more to ask, ever.
    Stopped,
}

/// What an answer has made of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ended {
    /// The threshold is reached of this.
    pub(super) reached: Option<ProbeResult>,
    /// The result is another now.
    pub(super) changed: bool,
}

impl Asker {
    pub(super) fn new(timing: Timing, first_tick: Moment) -> Self {
        Self {
            timing,
            next_tick: timing.beat_from(first_tick),
            out_of_turn: None,
            activity: Activity::Waiting,
            fresh: true,
            result: None,
            last: None,
            run: 0,
        }
    }

    /// The probe asks something else now, or at other times: the run of answers is another's. A question
    /// that is on its way is forgotten.
    pub(super) fn edited(self, timing: Timing, first_tick: Moment) -> Self {
        let activity = match self.activity {
            Activity::Asking | Activity::AskingInVain => Activity::Waiting,
            other => other,
        };
        Self {
            activity,
            result: self.result,
            ..Self::new(timing, first_tick)
        }
    }

    /// Another container has come. It takes the run of answers over (PROBE-05).
    pub(super) fn next_container(&mut self) {
        (self.result, self.out_of_turn) = (None, None);
        self.activity = match self.activity {
            Activity::Asking | Activity::AskingInVain => Activity::AskingInVain,
            Activity::Waiting | Activity::Held => Activity::Waiting,
            Activity::Stopped => Activity::Stopped,
        };
    }

    /// The probe has said all that it can say of its container: nothing is asked until another one
    /// comes, and that begins a run of its own.
    pub(super) fn hold(&mut self) {
        if self.activity != Activity::Stopped && self.result.is_some() {
            self.activity = Activity::Held;
        }
        self.run = 0;
    }

    /// Nothing is asked any more; what has been said stays.
    pub(super) fn stop(&mut self) {
        self.activity = Activity::Stopped;
    }

    pub(super) fn result(&self) -> Option<ProbeResult> {
        self.result
    }

    pub(super) fn ask_at(&mut self, at: Moment) {
        self.out_of_turn = Some(at);
    }

    /// Asked at this moment or before, unless its first tick has yet to come. While a question is on its way this
    /// waits for its end.
    pub(super) fn nudge(&mut self, at: Moment) {
        if !self.fresh {
            self.out_of_turn = Some(self.out_of_turn.map_or(at, |before| before.min(at)));
        }
    }

    /// Uses up the ticks before `now`.
    pub(super) fn skip_to(&mut self, now: Moment) {
        self.next_tick = self.tick_from(now);
    }

    /// When to ask about a container that runs since then.
    pub(super) fn due(&self, running_since: Moment) -> Option<Moment> {
        if self.activity != Activity::Waiting {
            return None;
        }
        let earliest = running_since + self.timing.initial_delay;
        let in_turn = self.tick_from(earliest);
        let out_of_turn = self.out_of_turn.map(|at| at.max(earliest));
        Some(out_of_turn.map_or(in_turn, |at| at.min(in_turn)))
    }

    pub(super) fn begin(&mut self, now: Moment) {
        (self.activity, self.fresh) = (Activity::Asking, false);
        if self.out_of_turn.take_if(|at| *at <= now).is_some() {
            self.next_tick = self.timing.beat_at(now + self.timing.period);
        } else {
            self.next_tick = self.tick_from(now + Moment::from_nanos(1));
        }
    }

    /// Before anything has been said the result is `initial`.
    pub(super) fn end(&mut self, answer: Answer, initial: ProbeResult) -> Ended {
        let in_vain = match self.activity {
            Activity::Asking => false,
            Activity::AskingInVain => true,
            Activity::Waiting | Activity::Held | Activity::Stopped => return Ended::default(),
        };
        self.activity = Activity::Waiting;
        let (threshold, result) = match answer {
            Answer::Good => (self.timing.success_threshold, ProbeResult::Success),
            Answer::Bad => (self.timing.failure_threshold, ProbeResult::Failure),
            Answer::None => return Ended::default(),
        };
        if self.last == Some(answer) {
            self.run = self.run.saturating_add(1);
        } else {
            (self.last, self.run) = (Some(answer), 1);
        }
        if self.run < threshold {
            return Ended::default();
        }
        Ended {
            reached: Some(result),
            changed: !in_vain && self.result.replace(result).unwrap_or(initial) != result,
        }
    }

    /// The first unused tick at or after a moment. Periods are whole seconds: a tick on the beat is
    /// followed by ticks on the beat.
    fn tick_from(&self, moment: Moment) -> Moment {
        let Some(late) = moment
            .checked_sub(self.next_tick)
            .filter(|late| !late.is_zero())
        else {
            return self.next_tick;
        };
        let period = self.timing.period.as_nanos();
        let ticks = late.as_nanos().div_ceil(period);
        let ahead = u64::try_from(ticks * period).unwrap_or(u64::MAX);
        self.next_tick + Moment::from_nanos(ahead)
    }
}
