//! Notice of a clock that was set: by a hand or by a step of a time service. The kernel tells by cancelling
//! a timer (timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`); nothing is polled.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    time::Duration,
};

use rustix::{
    io::Errno,
    time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec,
        clock_gettime, timerfd_create, timerfd_settime,
    },
};

/// How far a clock was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockJump {
    /// Into the future.
    pub is_forward: bool,
    /// How far.
    pub by: Duration,
}

/// The watch over the wall clock. Its descriptor is readable once the clock was set.
#[derive(Debug)]
pub struct ClockWatch {
    timer: OwnedFd,
    /// The wall clock less the time since boot, in nanoseconds: it changes only when the clock is set,
    /// be the machine suspended or not.
    offset: i128,
}

impl ClockWatch {
    /// Watches from now on.
    ///
    /// # Errors
    /// When the kernel has no more timers.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
        // At the end of time: it never goes off by itself.
        let never = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&timer, flags, &never)?;
        Ok(Self {
            timer,
            offset: offset(),
        })
    }

    /// How far the clock was set since the last call; `None` when it was not.
    ///
    /// # Errors
    /// When the timer cannot be read.
    pub fn jump(&mut self) -> io::Result<Option<ClockJump>> {
        match rustix::io::read(&self.timer, &mut [0; 8]) {
            Ok(_) | Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            Err(Errno::CANCELED) => {
                let before = std::mem::replace(&mut self.offset, offset());
                Ok(Some(between(before, self.offset)))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl AsRawFd for ClockWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }
}

fn offset() -> i128 {
    let nanoseconds = |clock| {
        let time = clock_gettime(clock);
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    };
    nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Boottime)
}

fn between(before: i128, after: i128) -> ClockJump {
    let by = u64::try_from((after - before).unsigned_abs()).unwrap_or(u64::MAX);
    ClockJump {
        is_forward: after > before,
        by: Duration::from_nanos(by),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_nobody_sets_has_not_jumped() {
        assert_eq!(ClockWatch::new().unwrap().jump().unwrap(), None);
    }

    #[test]
    fn a_jump_has_a_direction_and_a_length() {
        let hour = 3_600_000_000_000;
        let by = Duration::from_hours(1);
        assert_eq!(
            [between(5, 5 + hour), between(5 + hour, 5)],
            [true, false].map(|is_forward| ClockJump { is_forward, by })
        );
    }
}
